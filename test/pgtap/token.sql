-- Tokens, tickets and revocation, as a backend makes them. Signatures are checked with
-- what PostgreSQL itself has: sha256() makes an HMAC.
SET client_min_messages = warning;
CREATE EXTENSION pgtap;
CREATE SCHEMA pev;
CREATE EXTENSION pev SCHEMA pev;
SET search_path = pev, public;
SELECT plan(128);

CREATE FUNCTION from_base64url(digits text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
  $$ SELECT decode(rpad(translate(digits, '-_', '+/'), (length(digits) + 3) / 4 * 4, '='), 'base64') $$;
CREATE FUNCTION part(token text, n int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
  $$ SELECT convert_from(from_base64url(split_part(token, '.', n)), 'UTF8')::jsonb $$;
-- RFC 2104, for keys of at most a block of 64 bytes
CREATE FUNCTION padded(key bytea, pad int) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE block bytea := key || decode(repeat('00', 64 - length(key)), 'hex');
BEGIN
  FOR i IN 0..63 LOOP block := set_byte(block, i, get_byte(block, i) # pad); END LOOP;
  RETURN block;
END $$;
CREATE FUNCTION hmac(message text, key text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
  $$ SELECT sha256(padded(key::bytea, 92) || sha256(padded(key::bytea, 54) || message::bytea)) $$;
CREATE FUNCTION is_signed(token text, key text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
  $$ SELECT hmac(regexp_replace(token, '\.[^.]*$', ''), key) = from_base64url(split_part(token, '.', 3)) $$;
SELECT is(encode(hmac('what do ya want for nothing?', 'Jefe'), 'hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  'the HMAC of this test is that of RFC 4231');

-- The setting.
SELECT throws_ok('SELECT pev_token(42)', '55000', 'there is no secret to sign tokens with', 'no secret');
SET pev.jwt_secret = '0123456789abcdef0123456789abcde';
SELECT throws_ok('SELECT pev_token(42)', '55000', 'the secret of pev.jwt_secret is too short', '31 bytes');
SET pev.jwt_secret = '0123456789abcdef0123456789abcdef';
SELECT lives_ok('SELECT pev_token(42)', '32 bytes');
SELECT is(current_setting('pev.jwt_secret'), '********', 'the secret is not shown');
SELECT is_empty('SELECT name FROM pg_settings WHERE name = ''pev.jwt_secret''', 'nor is there a row for it');
SELECT throws_ok(format('ALTER DATABASE %I SET pev.jwt_secret = ''0123456789abcdef0123456789abcdef''', current_database()), '22023',
  'pev.jwt_secret must not be stored for a database, role or function', 'nor can a database keep it');
SELECT throws_ok('ALTER ROLE CURRENT_USER SET pev.jwt_secret = ''0123456789abcdef0123456789abcdef''', '22023', NULL, 'nor a role');
SELECT throws_ok('CREATE FUNCTION f() RETURNS int LANGUAGE sql SET pev.jwt_secret = ''0123456789abcdef0123456789abcdef'' AS ''SELECT 1''', '22023', NULL,
  'nor a function');
SELECT lives_ok('CREATE FUNCTION f() RETURNS int LANGUAGE sql SET pev.jwt_secret = ''file:/a/path'' AS ''SELECT 1''', 'a path is no secret');
SELECT throws_like('SELECT set_config(''pev.jwt_secret'', ''file:/nonexistent'', true), pev_token(42)',
  'could not open file "/nonexistent" of pev.jwt_secret%', 'a file that is not there');
SELECT throws_like('SELECT set_config(''pev.jwt_secret'', ''file:/'', true), pev_token(42)',
  'could not read file "/" of pev.jwt_secret%', 'a file that is none');
-- In the file a newline follows the secret.
SELECT current_setting('data_directory') || '/pev_secret' AS file \gset
COPY (SELECT 'fedcba9876543210fedcba9876543210') TO :'file';
SELECT set_config('pev.jwt_secret', 'file:' || :'file', false) AS setting \gset
SELECT ok(is_signed(pev_token(42), 'fedcba9876543210fedcba9876543210'), 'a secret in a file, without the end of its line');
SELECT is(current_setting('pev.jwt_secret'), :'setting', 'which file it is can be seen');
COPY (SELECT 'short') TO :'file';
SELECT throws_ok('SELECT pev_token(42)', '55000', 'the secret of pev.jwt_secret is too short', 'the file is read each time');
SET pev.jwt_secret = '0123456789abcdef0123456789abcdef';

-- The token.
SELECT pev_token('user:u_1', '1 h', true, 'u"\1ü') AS token \gset
SELECT ok(:'token' ~ '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$', 'three parts of base64url');
SELECT is(part(:'token', 1), '{"alg": "HS256", "typ": "JWT"}'::jsonb, 'header');
SELECT ok(is_signed(:'token', '0123456789abcdef0123456789abcdef'), 'signature');
SELECT is(part(:'token', 2) - '{iat,exp,jti}'::text[], '{"sub": "u\"\\1ü", "pev.read": ["user:u_1"], "pev.emit": ["user:u_1"]}'::jsonb, 'claims');
SELECT is((part(:'token', 2)->>'exp')::bigint - (part(:'token', 2)->>'iat')::bigint, 3600::bigint, 'ttl');
SELECT ok(abs(extract(epoch FROM clock_timestamp()) - (part(:'token', 2)->>'iat')::bigint) < 60, 'iat is now');
SELECT ok((part(:'token', 2)->>'jti')::uuid::text ~ '^.{14}7', 'jti is a UUIDv7');
SELECT is(part(pev_token(42), 2) - '{iat,exp,jti}'::text[], '{"pev.read": ["42"]}'::jsonb, 'by default to read, for nobody in particular');
SELECT is((part(pev_token(42), 2)->>'exp')::bigint - (part(pev_token(42), 2)->>'iat')::bigint BETWEEN 899 AND 901, true, 'for 15 minutes');
SELECT is(part(pev_token(stream), 2)->'pev.read'->>0, want, format('a token for %s', stream)) FROM (VALUES ('42', '42'), ('0042', '42'), ('nightly-import', 'nightly-import'),
  ('E96B74BC-ABA8-4837-BB43-237FD687D18B', 'e96b74bc-aba8-4837-bb43-237fd687d18b'), ('user:*', 'user:*'), ('*', '*')) v(stream, want);
SELECT is(part(pev_token('E96B74BC-ABA8-4837-BB43-237FD687D18B'::uuid), 2)->'pev.read'->>0, 'e96b74bc-aba8-4837-bb43-237fd687d18b', 'a token for a UUID');
SELECT throws_ok(format('SELECT pev_token(%L)', stream), '22023', NULL, format('no token for "%s"', stream))
  FROM unnest(ARRAY['', '**', 'user*', 'user:', ':*', 'a:b:*', '*:x', 'user:{{sub}}', 'a b', '-5', 'a"b', repeat('x', 201)]) stream;
SELECT throws_ok('SELECT pev_token(-5)', '22023', NULL, 'no token for a number below zero');
SELECT throws_ok('SELECT pev_token(''99999999999999999999'')', '22003', NULL, 'no token for a number beyond bigint');
SELECT throws_ok('SELECT pev_token(NULL::text)', '22004', 'stream must not be null', 'stream');
SELECT throws_ok('SELECT pev_token(NULL::bigint)', '22004', 'stream must not be null', 'stream');
SELECT throws_ok('SELECT pev_token(42, NULL)', '22004', 'ttl must not be null', 'ttl');
SELECT throws_ok('SELECT pev_token(42, ''1 h'', NULL)', '22004', 'emit must not be null', 'emit');
SELECT throws_ok(format('SELECT pev_token(42, %L)', ttl), '22023', 'ttl must be between 1 second and 30 days', format('ttl %s', ttl))
  FROM unnest(ARRAY['0', '-1 s', '999 ms', '30 days 1 s', '1 mon', '100 years']) ttl;
SELECT lives_ok(format('SELECT pev_token(42, %L)', ttl), format('ttl %s', ttl)) FROM unnest(ARRAY['1 s', '30 days']) ttl;
SELECT is(part(pev_token('user:u', enqueue => '{generate_image,*,x-Y_9}'), 2)->'pev.enqueue', '["generate_image", "*", "x-Y_9"]'::jsonb, 'kinds of job');
SELECT is(part(pev_token(42::bigint, enqueue => '{}'), 2)->'pev.enqueue', '[]'::jsonb, 'none');
SELECT throws_ok(format('SELECT pev_token(42, enqueue => ARRAY[%L])', kind), '22023', format('invalid job kind "%s"', kind), format('kind "%s"', left(kind, 9))) FROM unnest(ARRAY['', 'a b', '9a', '_a', 'a*', 'ä', repeat('k', 64)]) kind;
SELECT throws_ok('SELECT pev_token(42, enqueue => ARRAY[''a'', NULL])', '22004', 'enqueue must not hold nulls', 'a kind that is null');
SELECT throws_ok('SELECT pev_token(42, enqueue => array_fill(''k''::text, ARRAY[65]))', '54000', 'enqueue names more than 64 kinds', '65 kinds');
SELECT is(jsonb_array_length(part(pev_token(42, enqueue => array_fill('k'::text, ARRAY[64])), 2)->'pev.enqueue'), 64, '64 kinds');
SELECT throws_ok('SELECT pev_token(42, sub => repeat(''x'', 8000))', '54000', 'sub or name is too long', 'a token has a bound');
SELECT is(part(pev_token('user:u', sub => 'u', name => 'Ann "Ä"'), 2) - '{iat,exp,jti}'::text[], '{"sub": "u", "name": "Ann \"Ä\"", "pev.read": ["user:u"]}'::jsonb, 'a name');
SELECT is(part(pev_token(42::bigint, name => 'n'), 2)->>'name', part(pev_token('0199ed5e-21a0-7c3a-9b1d-0a51f6f0a0ff'::uuid, name => 'n'), 2)->>'name', 'for every spelling of a stream');

-- Taking one back.
SELECT is((SELECT i FROM pev_token_id(:'token') i), (SELECT ROW(part(:'token', 2)->>'jti', to_timestamp((part(:'token', 2)->>'exp')::bigint))), 'a token''s id and expiry')
  FROM (SELECT 1) x;
SELECT is(jti, encode(sha256('pevt_x'), 'hex'), 'a ticket''s id is its hash') FROM pev_token_id('pevt_x');
SELECT is(jti, 'some-id', 'a jti is itself') FROM pev_token_id('some-id');
SELECT throws_ok(format('SELECT pev_token_id(%L)', token), '22023', 'token cannot be revoked', 'no id in ' || left(token, 20))
  FROM unnest(ARRAY['', repeat('x', 129), 'a.?.c', 'a.' || translate(encode('[]', 'base64'), '=', '') || '.c', 'a.' || translate(encode('{"exp":1}', 'base64'), '=', '') || '.c',
    'a.' || translate(encode('\xff'::bytea, 'base64'), '=', '') || '.c', 'a.' || translate(encode('\x7b7d00'::bytea, 'base64'), '=', '') || '.c']) token;
SELECT throws_ok('SELECT pev_revoke_token(NULL)', '22004', 'token must not be null', 'nothing');
SELECT lives_ok(format('SELECT pev_revoke_token(%L)', :'token'), 'a token is revoked');
SELECT results_eq('SELECT expires FROM pev_revoked_token', ARRAY[to_timestamp((part(:'token', 2)->>'exp')::bigint)], 'until it expires');
SELECT lives_ok(format('SELECT pev_revoke_token(%L, ''infinity'')', :'token'), 'again');
SELECT results_eq('SELECT expires FROM pev_revoked_token', ARRAY['infinity'::timestamptz], 'for longer');
INSERT INTO pev_revoked_token SELECT 'old' || i, now() - interval '1 s' FROM generate_series(1, 3) i;
SELECT lives_ok('SELECT pev_revoke_token(''new'', now() + interval ''1 h'')', 'another one');
SELECT results_eq('SELECT jti COLLATE "default" FROM pev_revoked_token WHERE jti ~ ''old|new''', ARRAY['new'], 'what has expired is forgotten');

-- Tickets.
SELECT pev_ticket('user:u_1') AS ticket \gset
SELECT ok(:'ticket' ~ '^pevt_[A-Za-z0-9_-]{43}$', 'a ticket');
SELECT is((SELECT t FROM (SELECT stream, redeem_before - now() < interval '2 min' AS soon, lifetime, redeemed_at, expires FROM pev_ticket WHERE hash = sha256(:'ticket')) t)::text,
  '(user:u_1,t,01:00:00,,)', 'is kept by its hash');
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_2'), NULL, 'another stream');
SELECT is(pev_redeem_ticket(sha256('x'), 'user:u_1'), NULL, 'another ticket');
BEGIN;
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_1'), now() + interval '1 h', 'redeemed');
COMMIT;
BEGIN;
UPDATE pev_ticket SET expires = now() + interval '5 s';
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_1'), now() + interval '5 s', 'reused while it could still be redeemed');
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_2'), NULL, 'not for another stream');
UPDATE pev_ticket SET redeem_before = now() - interval '1 s';
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_1'), now() + interval '5 s', 'reused, which does not prolong it');
COMMIT;
UPDATE pev_ticket SET expires = now() - interval '1 s';
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'user:u_1'), NULL, 'expired');
SELECT pev_ticket(42, '10 s') AS ticket \gset
SELECT results_eq('SELECT stream COLLATE "default" FROM pev_ticket', ARRAY['42'], 'which is forgotten when the next one is made');
UPDATE pev_ticket SET redeem_before = now() - interval '1 s';
SELECT is(pev_redeem_ticket(sha256(:'ticket'), '42'), NULL, 'not redeemed in time');
SELECT pev_ticket('E96B74BC-ABA8-4837-BB43-237FD687D18B'::uuid) AS ticket \gset
SELECT lives_ok(format('SELECT pev_revoke_token(%L)', encode(sha256(:'ticket'), 'hex')), 'a ticket is revoked by its hash');
SELECT is(pev_redeem_ticket(sha256(:'ticket'), 'e96b74bc-aba8-4837-bb43-237fd687d18b'), NULL, 'and not redeemed');
SELECT lives_ok(format('SELECT pev_revoke_token(%L)', :'ticket'), 'a ticket is revoked');
SELECT is_empty('SELECT stream FROM pev_ticket', 'and forgotten');
SELECT throws_ok('SELECT pev_ticket(NULL::text)', '22004', 'stream must not be null', 'stream');
SELECT throws_ok('SELECT pev_ticket(42, NULL)', '22004', 'ttl must not be null', 'ttl');
SELECT throws_ok('SELECT pev_ticket(42, ''1 min'', NULL)', '22004', 'lifetime must not be null', 'lifetime');
SELECT throws_ok('SELECT pev_ticket(42, ''0'')', '22023', 'ttl must be between 1 second and 30 days', 'ttl');
SELECT throws_ok('SELECT pev_ticket(42, ''1 min'', ''31 days'')', '22023', 'lifetime must be between 1 second and 30 days', 'lifetime');
SELECT throws_ok('SELECT pev_ticket(''user:*'')', '22023', NULL, 'a ticket is for one stream');

-- Nobody may, until it is granted; then no other right is needed.
CREATE ROLE pev_test_backend;
CREATE ROLE pev_test_streamer;
GRANT USAGE ON SCHEMA pev TO pev_test_backend, pev_test_streamer;
SET ROLE pev_test_backend;
SELECT throws_ok(call, '42501', NULL, call) FROM unnest(ARRAY['SELECT pev_token(42)', 'SELECT pev_token(''42'')', 'SELECT pev_ticket(42)', 'SELECT pev_ticket(''42'')',
  'SELECT pev_revoke_token(''x'')', 'SELECT pev_redeem_ticket('''', '''')', 'SELECT * FROM pev_ticket', 'SELECT * FROM pev_revoked_token', 'SHOW pev.jwt_secret',
  'SELECT current_setting(''pev.jwt_secret'')', 'SET pev.jwt_secret = ''0123456789abcdef0123456789abcdef''']) call;
RESET ROLE;
GRANT EXECUTE ON FUNCTION pev_token(text, interval, boolean, text, text[], text), pev_token(bigint, interval, boolean, text, text[], text),
  pev_ticket(text, interval, interval), pev_revoke_token(text, timestamptz) TO pev_test_backend;
GRANT EXECUTE ON FUNCTION pev_redeem_ticket(bytea, text) TO pev_test_streamer;
SET ROLE pev_test_backend;
SELECT lives_ok(call, call) FROM unnest(ARRAY['SELECT pev_token(42)', 'SELECT pev_token(''42'')', 'SELECT pev_ticket(''42'')', 'SELECT pev_revoke_token(''x'')']) call;
SELECT throws_ok('SHOW pev.jwt_secret', '42501', NULL, 'which does not show the secret');
SET ROLE pev_test_streamer;
SELECT lives_ok('SELECT pev_redeem_ticket('''', '''')', 'the streamer redeems');
RESET ROLE;
DROP OWNED BY pev_test_backend, pev_test_streamer;
DROP ROLE pev_test_backend, pev_test_streamer;

-- An expiry that no calendar has is a clear error.
SELECT throws_ok(format('SELECT pev_token_id(%L)', 'a.' || translate(encode('{"jti":"x","exp":1e300}', 'base64'), '=', '') || '.c'), '22008', NULL, 'an expiry beyond timestamps');
SELECT * FROM finish();

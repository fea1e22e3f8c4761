-- Functions.  `stream` is a number, a UUID or a key; a key of digits alone is that number.

-- Emitting ------------------------------------------------------------------------------------

CREATE FUNCTION pev_emit(stream bigint, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_bigint';
CREATE FUNCTION pev_emit(stream uuid, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_uuid';
CREATE FUNCTION pev_emit(stream text, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_text';
COMMENT ON FUNCTION pev_emit(bigint, text, jsonb) IS
  'store an event; its seq, or NULL for a type that is not stored; raises 22004, 22023, 23514, 54000, 55000';
COMMENT ON FUNCTION pev_emit(uuid, text, jsonb) IS
  'store an event in the stream named by a UUID; raises 22004, 22023, 23514, 54000, 55000';
COMMENT ON FUNCTION pev_emit(text, text, jsonb) IS
  'store an event in the stream named by a key; raises 22003, 22004, 22023, 23514, 42704, 54000, 55000';

CREATE FUNCTION pev_try_emit(stream bigint, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_try_emit_bigint';
CREATE FUNCTION pev_try_emit(stream uuid, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_try_emit_uuid';
CREATE FUNCTION pev_try_emit(stream text, type text, data jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_try_emit_text';
COMMENT ON FUNCTION pev_try_emit(bigint, text, jsonb) IS
  'as pev_emit, but a refused event is a WARNING and NULL, and leaves the transaction as it was';
COMMENT ON FUNCTION pev_try_emit(uuid, text, jsonb) IS
  'as pev_emit, but a refused event is a WARNING and NULL, and leaves the transaction as it was';
COMMENT ON FUNCTION pev_try_emit(text, text, jsonb) IS
  'as pev_emit, but a refused event is a WARNING and NULL, and leaves the transaction as it was';

CREATE FUNCTION pev_emit_batch(stream bigint, events jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_batch_bigint';
CREATE FUNCTION pev_emit_batch(stream uuid, events jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_batch_uuid';
CREATE FUNCTION pev_emit_batch(stream text, events jsonb) RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pev_emit_batch_text';
COMMENT ON FUNCTION pev_emit_batch(bigint, jsonb) IS
  'store [{"type": …, "data": …}, …] in order, all or none; the last seq, or NULL if nothing is stored';
COMMENT ON FUNCTION pev_emit_batch(uuid, jsonb) IS
  'store [{"type": …, "data": …}, …] in order, all or none; the last seq, or NULL if nothing is stored';
COMMENT ON FUNCTION pev_emit_batch(text, jsonb) IS
  'store [{"type": …, "data": …}, …] in order, all or none; the last seq, or NULL if nothing is stored';

CREATE FUNCTION pev_check_idempotency_key(key text) RETURNS void
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
  AS $$
    BEGIN
      IF $1 COLLATE "C" !~ '^[!-~]{1,255}$' THEN
        RAISE EXCEPTION 'invalid idempotency key' USING ERRCODE = '22023',
          DETAIL = 'A key has 1 to 255 visible ASCII characters.';
      END IF;
    END
  $$;
COMMENT ON FUNCTION pev_check_idempotency_key(text) IS
  'raise 22023 for what is no idempotency key; NULL is none';

-- Whoever cannot know whether events arrived, for the answer was lost on its way, sends them again
-- under the same key.  The key's row comes before the events, in one transaction with them: of those
-- who come with it at once, all wait for the first and then find its answer; and if the events are
-- refused, there is no row.  Keys that are too old go when new ones come, a few at a time, and none
-- that another transaction is at.
CREATE FUNCTION pev_emit_once(stream text, key text, events jsonb) RETURNS bigint
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      oldest CONSTANT timestamptz := now() - interval '24 hours';
      this_stream text;
      this_key bytea;
      this_request bytea;
      known record;
      last_seq bigint;
    BEGIN
      IF $1 IS NULL OR $2 IS NULL OR $3 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $1 IS NULL THEN 'stream' WHEN $2 IS NULL THEN 'key' ELSE 'events' END);
      END IF;
      PERFORM @extschema@.pev_check_idempotency_key($2);
      this_stream := (SELECT coalesce(p.id::text, p.canonical)
                      FROM @extschema@.pev_stream_key_parse($1) p);
      this_key := sha256(convert_to($2, 'UTF8'));
      this_request := sha256(convert_to($3::text, 'UTF8'));
      LOOP
        SELECT i.request_hash, i.seq INTO known FROM @extschema@.pev_idempotency i
        WHERE i.stream = this_stream AND i.key_hash = this_key AND i.created_at > oldest;
        IF FOUND AND known.request_hash <> this_request THEN
          RAISE EXCEPTION 'idempotency key was used for other events' USING ERRCODE = '22023',
            HINT = 'Take a new key for new events.';
        ELSIF FOUND THEN
          RETURN known.seq;
        END IF;
        INSERT INTO @extschema@.pev_idempotency AS i (stream, key_hash, request_hash)
        VALUES (this_stream, this_key, this_request)
        ON CONFLICT ON CONSTRAINT pev_idempotency_pkey DO UPDATE
          SET request_hash = EXCLUDED.request_hash, seq = NULL, created_at = EXCLUDED.created_at
          WHERE i.created_at <= oldest;
        EXIT WHEN FOUND;
      END LOOP;
      DELETE FROM @extschema@.pev_idempotency WHERE (pev_idempotency.stream, key_hash) IN (
        SELECT i.stream, i.key_hash FROM @extschema@.pev_idempotency i
        WHERE i.created_at <= oldest ORDER BY i.created_at LIMIT 10 FOR UPDATE SKIP LOCKED);
      last_seq := @extschema@.pev_emit_batch($1, $3);
      UPDATE @extschema@.pev_idempotency i SET seq = last_seq
      WHERE i.stream = this_stream AND i.key_hash = this_key AND last_seq IS NOT NULL;
      RETURN last_seq;
    END
  $$;
CREATE FUNCTION pev_emit_once(stream bigint, key text, events jsonb) RETURNS bigint
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_emit_once(stream::text, key, events) $$;
CREATE FUNCTION pev_emit_once(stream uuid, key text, events jsonb) RETURNS bigint
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_emit_once(stream::text, key, events) $$;
COMMENT ON FUNCTION pev_emit_once(text, text, jsonb) IS
  'as pev_emit_batch, but the same events under the same key (1 to 255 visible ASCII characters) are stored once within 24 hours, and later calls return what the first did; needs all rights on the rows of pev_idempotency; raises 22023 for other events under the key, and what pev_emit_batch raises';
COMMENT ON FUNCTION pev_emit_once(bigint, text, jsonb) IS
  'as pev_emit_batch, but the same events under the same key are stored once within 24 hours';
COMMENT ON FUNCTION pev_emit_once(uuid, text, jsonb) IS
  'as pev_emit_batch, but the same events under the same key are stored once within 24 hours';

-- Asking the catalogue ------------------------------------------------------------------------

CREATE FUNCTION pev_validate(type text, data jsonb, OUT path text, OUT keyword text,
                             OUT message text) RETURNS SETOF record
  LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_validate(text, jsonb) IS
  'what pev_emit would refuse in an event, a row a fault; path is a JSON Pointer (RFC 6901); raises 22004, 22023';

CREATE FUNCTION pev_is_valid(type text, data jsonb) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_is_valid(text, jsonb) IS 'would pev_emit accept this data? raises 22023';

CREATE FUNCTION pev_is_terminal(type assistant_event_type, data jsonb) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_is_terminal(assistant_event_type, jsonb) IS
  'does an event close its stream?';

-- Streams -------------------------------------------------------------------------------------

CREATE FUNCTION pev_stream_key_parse(key text, OUT id bigint, OUT canonical text)
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_stream_key_parse(text) IS
  'a key of digits as its number, any other in the form pev_stream.key has it; raises 22003, 22023';

CREATE FUNCTION pev_stream_id(key text) RETURNS bigint
  LANGUAGE sql STABLE STRICT PARALLEL SAFE
  AS $$
    SELECT coalesce(p.id, (SELECT s.id FROM @extschema@.pev_stream s WHERE s.key = p.canonical))
    FROM @extschema@.pev_stream_key_parse(key) p
  $$;
CREATE FUNCTION pev_stream_id(key uuid) RETURNS bigint
  LANGUAGE sql STABLE STRICT PARALLEL SAFE
  AS $$ SELECT s.id FROM @extschema@.pev_stream s WHERE s.key = $1::text $$;
COMMENT ON FUNCTION pev_stream_id(text) IS
  'execution_id of a key, or NULL if it has no event yet; raises 22003, 22023';
COMMENT ON FUNCTION pev_stream_id(uuid) IS
  'execution_id of the stream named by a UUID, or NULL if it has no event yet';

-- Reading -------------------------------------------------------------------------------------

CREATE FUNCTION pev_events(stream bigint) RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    SELECT e.* FROM @extschema@.assistant_architect_events e
    WHERE e.execution_id = stream ORDER BY e.seq
  $$;
CREATE FUNCTION pev_events(stream uuid) RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream)) $$;
CREATE FUNCTION pev_events(stream text) RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream)) $$;

CREATE FUNCTION pev_events(stream bigint, type text, after_seq bigint DEFAULT 0)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    SELECT e.* FROM @extschema@.assistant_architect_events e
    WHERE e.execution_id = stream
      AND e.event_type = type::@extschema@.assistant_event_type
      AND e.seq > after_seq
    ORDER BY e.seq
  $$;
CREATE FUNCTION pev_events(stream uuid, type text, after_seq bigint DEFAULT 0)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream), type, after_seq)
  $$;
CREATE FUNCTION pev_events(stream text, type text, after_seq bigint DEFAULT 0)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream), type, after_seq)
  $$;

CREATE FUNCTION pev_events(stream bigint, after_seq bigint)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$
    SELECT e.* FROM @extschema@.assistant_architect_events e
    WHERE e.execution_id = stream AND e.seq > after_seq ORDER BY e.seq
  $$;
CREATE FUNCTION pev_events(stream uuid, after_seq bigint)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream), after_seq) $$;
CREATE FUNCTION pev_events(stream text, after_seq bigint)
  RETURNS SETOF assistant_architect_events
  LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT * FROM @extschema@.pev_events(@extschema@.pev_stream_id(stream), after_seq) $$;

COMMENT ON FUNCTION pev_events(bigint) IS 'events of a stream, in order';
COMMENT ON FUNCTION pev_events(uuid) IS 'events of the stream named by a UUID, in order';
COMMENT ON FUNCTION pev_events(text) IS 'events of the stream named by a key, in order; raises 22003, 22023';
COMMENT ON FUNCTION pev_events(bigint, text, bigint) IS
  'events of one type after a seq, in order; raises 22P02 for an unknown type';
COMMENT ON FUNCTION pev_events(uuid, text, bigint) IS
  'events of one type after a seq, in order; raises 22P02 for an unknown type';
COMMENT ON FUNCTION pev_events(text, text, bigint) IS
  'events of one type after a seq, in order; raises 22003, 22023, 22P02';
COMMENT ON FUNCTION pev_events(bigint, bigint) IS 'events of a stream after a seq, in order';
COMMENT ON FUNCTION pev_events(uuid, bigint) IS 'events of a stream after a seq, in order';
COMMENT ON FUNCTION pev_events(text, bigint) IS
  'events of a stream after a seq, in order; raises 22003, 22023';

-- A row for every stream that is an execution: all but those of a declared kind, which never end.
CREATE VIEW pev_executions AS
WITH event AS (
  SELECT
    e.execution_id, e.seq, e.event_type, e.event_data, e.created_at,
    @extschema@.pev_is_terminal(e.event_type, e.event_data) AS closes,
    -- A number of the event, if it is one: the owner may have changed the schemas.
    CASE jsonb_typeof(f.progress) WHEN 'number' THEN f.progress::numeric / f.full_scale END
      AS progress,
    CASE jsonb_typeof(f.tokens) WHEN 'number' THEN f.tokens::numeric END AS tokens,
    CASE jsonb_typeof(f.prompts) WHEN 'number' THEN f.prompts::numeric END AS prompts,
    coalesce(e.event_data->>'message',
             CASE jsonb_typeof(e.event_data->'error')
               WHEN 'object' THEN e.event_data->'error'->>'message'
               ELSE e.event_data->>'error' END,
             e.event_data->>'summary', nullif(e.event_data->'phase'->>'description', '')) AS message
  FROM @extschema@.assistant_architect_events e,
    LATERAL (SELECT
      CASE WHEN e.event_type = 'progress' THEN e.event_data->'percentage'
           WHEN e.event_type IN ('generation_progress', 'upload_progress',
                                 'PipelineStatus', 'StreamingProgressEvent')
           THEN e.event_data->'progress' END AS progress,
      CASE WHEN e.event_type IN ('PipelineStatus', 'StreamingProgressEvent') THEN 1 ELSE 100 END
        AS full_scale,
      CASE e.event_type WHEN 'execution-complete' THEN e.event_data->'totalTokens'
                        WHEN 'prompt-complete' THEN e.event_data->'outputTokens'
                        WHEN 'PipelineStatus' THEN e.event_data->'tokenCount'
                        WHEN 'TokenCount' THEN e.event_data->'tokenCount' END AS tokens,
      CASE e.event_type WHEN 'execution-start' THEN e.event_data->'totalPrompts' END AS prompts
    ) f
  WHERE NOT EXISTS (SELECT FROM @extschema@.pev_stream s
                    WHERE s.id = e.execution_id AND s.kind IS NOT NULL)
), execution AS (
  SELECT
    execution_id,
    count(*) AS events,
    bool_or(closes) AS closed,
    bool_or(closes AND (event_type = 'execution-error'
                        OR coalesce(event_data->>'status', '') = 'failed'))
      AS failed,
    greatest(max(progress),
             count(*) FILTER (WHERE event_type = 'prompt-complete') / nullif(max(prompts), 0))
      AS progress,
    coalesce(max(tokens) FILTER (WHERE event_type = 'execution-complete'),
             sum(tokens) FILTER (WHERE event_type = 'prompt-complete'),
             greatest(max(tokens) FILTER (WHERE event_type = 'PipelineStatus'),
                      sum(tokens) FILTER (WHERE event_type = 'TokenCount'))) AS tokens,
    min(created_at) AS started_at,
    max(created_at) FILTER (WHERE closes) AS finished_at,
    (array_agg(message ORDER BY seq DESC) FILTER (WHERE message IS NOT NULL))[1] AS last_message
  FROM event
  GROUP BY execution_id
)
SELECT
  x.execution_id,
  (SELECT s.key FROM @extschema@.pev_stream s WHERE s.id = x.execution_id) AS key,
  CASE WHEN x.failed THEN 'failed' WHEN x.closed THEN 'completed' ELSE 'running' END AS status,
  CASE WHEN x.closed AND NOT x.failed OR x.progress > 1 THEN 1.0000
       ELSE round(x.progress, 4) END AS progress,
  x.tokens,
  x.events,
  x.started_at,
  x.finished_at,
  x.finished_at - x.started_at AS duration,
  x.last_message
FROM execution x;
COMMENT ON VIEW pev_executions IS 'one row an execution, computed from its events';
COMMENT ON COLUMN pev_executions.key IS 'UUID or word the application names the execution by; NULL: its number';
COMMENT ON COLUMN pev_executions.status IS 'running, completed or failed';
COMMENT ON COLUMN pev_executions.progress IS 'furthest progress reported, 0 to 1; NULL: none yet';
COMMENT ON COLUMN pev_executions.tokens IS 'tokens reported so far; NULL: none yet';
COMMENT ON COLUMN pev_executions.events IS 'number of events kept';
COMMENT ON COLUMN pev_executions.execution_id IS 'the stream';
COMMENT ON COLUMN pev_executions.started_at IS 'time of the first event kept';
COMMENT ON COLUMN pev_executions.finished_at IS 'time of the event that closed the stream; NULL while it runs';
COMMENT ON COLUMN pev_executions.duration IS 'first to last event; NULL while it runs';
COMMENT ON COLUMN pev_executions.last_message IS 'latest text meant for people';
ALTER VIEW pev_executions OWNER TO @extowner@;

-- From 15 on a view can act with its reader's rights, row-level security included.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN
    ALTER VIEW @extschema@.pev_executions SET (security_invoker = true);
  END IF;
END
$$;

CREATE FUNCTION pev_execution(stream bigint) RETURNS SETOF pev_executions
  LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT * FROM @extschema@.pev_executions x WHERE x.execution_id = stream $$;
CREATE FUNCTION pev_execution(stream uuid) RETURNS SETOF pev_executions
  LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT * FROM @extschema@.pev_execution(@extschema@.pev_stream_id(stream)) $$;
CREATE FUNCTION pev_execution(stream text) RETURNS SETOF pev_executions
  LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT * FROM @extschema@.pev_execution(@extschema@.pev_stream_id(stream)) $$;
COMMENT ON FUNCTION pev_execution(bigint) IS 'the row of pev_executions for a stream; none if it has no event';
COMMENT ON FUNCTION pev_execution(uuid) IS 'the row of pev_executions for the stream named by a UUID';
COMMENT ON FUNCTION pev_execution(text) IS 'the row of pev_executions for the stream named by a key; raises 22003, 22023';

-- Extending the catalogue ---------------------------------------------------------------------

CREATE FUNCTION pev_register_stream_kind(prefix text, description text,
                                         families text[] DEFAULT NULL) RETURNS void
  LANGUAGE sql VOLATILE
  AS $$
    INSERT INTO @extschema@.pev_stream_kind AS k (prefix, description, families)
    VALUES (prefix, description, families)
    ON CONFLICT (prefix) DO UPDATE
      SET description = EXCLUDED.description, families = EXCLUDED.families
  $$;
COMMENT ON FUNCTION pev_register_stream_kind(text, text, text[]) IS
  'declare a prefix of stream keys and the event families it carries (NULL: all), or change it; needs INSERT and UPDATE on pev_stream_kind; raises 23514';

-- Access ----------------------------------------------------------------------------------------
--
-- Nobody may call these until it is granted.  pev_token() spends the server's secret, so it stays
-- its administrator's; what concerns only this database's tables belongs to the extension's owner,
-- and runs with the owner's rights, so that a backend which makes tickets needs none on the tables.

CREATE FUNCTION pev_token(stream text, ttl interval DEFAULT '15 min', emit boolean DEFAULT false,
                          sub text DEFAULT NULL, enqueue text[] DEFAULT NULL,
                          name text DEFAULT NULL) RETURNS text
  LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME';
CREATE FUNCTION pev_token(stream bigint, ttl interval DEFAULT '15 min', emit boolean DEFAULT false,
                          sub text DEFAULT NULL, enqueue text[] DEFAULT NULL,
                          name text DEFAULT NULL) RETURNS text
  LANGUAGE sql VOLATILE PARALLEL SAFE
  AS $$ SELECT @extschema@.pev_token(stream::text, ttl, emit, sub, enqueue, name) $$;
CREATE FUNCTION pev_token(stream uuid, ttl interval DEFAULT '15 min', emit boolean DEFAULT false,
                          sub text DEFAULT NULL, enqueue text[] DEFAULT NULL,
                          name text DEFAULT NULL) RETURNS text
  LANGUAGE sql VOLATILE PARALLEL SAFE
  AS $$ SELECT @extschema@.pev_token(stream::text, ttl, emit, sub, enqueue, name) $$;
COMMENT ON FUNCTION pev_token(text, interval, boolean, text, text[], text) IS
  'sign a JSON Web Token for a stream, "prefix:*" or "*", good for ttl (1 s to 30 days), to read or also to emit, and to queue jobs of the kinds enqueue ("*": of all), for the user sub, who is called name; raises 22003, 22004, 22023, 54000, 55000, 58030';
COMMENT ON FUNCTION pev_token(bigint, interval, boolean, text, text[], text) IS
  'sign a JSON Web Token for a stream; raises 22004, 22023, 54000, 55000, 58030';
COMMENT ON FUNCTION pev_token(uuid, interval, boolean, text, text[], text) IS
  'sign a JSON Web Token for the stream named by a UUID; raises 22004, 22023, 54000, 55000, 58030';

CREATE FUNCTION pev_token_id(token text, OUT jti text, OUT expires timestamptz)
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_token_id(text) IS
  'id of a token or ticket, and when it expires, if it says so; does not verify it; raises 22004, 22023, 22P02';

CREATE FUNCTION pev_lifetime(lifetime interval, name text) RETURNS interval
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_lifetime(interval, text) IS
  'the lifetime, if it is between 1 second and 30 days; raises 22004, 22023 by the name';

CREATE FUNCTION pev_ticket_stream(stream text) RETURNS text
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_ticket_stream(text) IS
  'canonical spelling of a stream''s key; raises 22003, 22004, 22023';

-- What has expired goes when something new comes; a few rows at a time, and none that another
-- transaction is at, so that nobody waits for anybody.
CREATE FUNCTION pev_ticket(stream text, ttl interval DEFAULT '1 min',
                           lifetime interval DEFAULT '1 hour') RETURNS text
  LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
    DELETE FROM @extschema@.pev_ticket WHERE hash IN (
      SELECT t.hash FROM @extschema@.pev_ticket t
      WHERE coalesce(t.expires, t.redeem_before) < now() LIMIT 100 FOR UPDATE SKIP LOCKED);
    WITH made AS (
      SELECT 'pevt_' || translate(encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
                                         'base64'), '+/=', '-_') AS ticket
    ), kept AS (
      INSERT INTO @extschema@.pev_ticket (hash, stream, redeem_before, lifetime)
      SELECT sha256(convert_to(m.ticket, 'UTF8')), @extschema@.pev_ticket_stream($1),
        clock_timestamp() + @extschema@.pev_lifetime($2, 'ttl'),
        @extschema@.pev_lifetime($3, 'lifetime')
      FROM made m
    )
    SELECT m.ticket FROM made m
  $$;
CREATE FUNCTION pev_ticket(stream bigint, ttl interval DEFAULT '1 min',
                           lifetime interval DEFAULT '1 hour') RETURNS text
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_ticket(stream::text, ttl, lifetime) $$;
CREATE FUNCTION pev_ticket(stream uuid, ttl interval DEFAULT '1 min',
                           lifetime interval DEFAULT '1 hour') RETURNS text
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_ticket(stream::text, ttl, lifetime) $$;
COMMENT ON FUNCTION pev_ticket(text, interval, interval) IS
  'make a ticket to one stream, to be redeemed within ttl and then good for reconnecting for lifetime (each 1 s to 30 days); raises 22003, 22004, 22023';
COMMENT ON FUNCTION pev_ticket(bigint, interval, interval) IS
  'make a ticket to one stream; raises 22004, 22023';
COMMENT ON FUNCTION pev_ticket(uuid, interval, interval) IS
  'make a ticket to the stream named by a UUID; raises 22004, 22023';

-- Nobody waits here either: a ticket that somebody else redeems or revokes at this moment is theirs.
CREATE FUNCTION pev_redeem_ticket(hash bytea, stream text) RETURNS timestamptz
  LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  AS $$
    WITH first_use AS (
      UPDATE @extschema@.pev_ticket t SET redeemed_at = now(), expires = now() + t.lifetime
      WHERE t.hash = (
        SELECT u.hash FROM @extschema@.pev_ticket u
        WHERE u.hash = $1 AND u.stream = $2 AND u.redeemed_at IS NULL AND u.redeem_before > now()
        FOR UPDATE SKIP LOCKED)
      RETURNING t.expires
    ), valid AS (
      SELECT f.expires FROM first_use f
      UNION ALL
      SELECT t.expires FROM @extschema@.pev_ticket t
      WHERE t.hash = $1 AND t.stream = $2 AND t.expires > now()
    )
    SELECT v.expires FROM valid v
    WHERE NOT EXISTS (SELECT FROM @extschema@.pev_revoked_token r
                      WHERE r.jti = encode($1, 'hex') AND r.expires > now())
  $$;
COMMENT ON FUNCTION pev_redeem_ticket(bytea, text) IS
  'for the streamer: when the ticket of this SHA-256 expires, now that it is redeemed or reused for the stream; NULL: it is not valid';

CREATE FUNCTION pev_revoke_token(token text, expires timestamptz DEFAULT NULL) RETURNS void
  LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
    DELETE FROM @extschema@.pev_revoked_token WHERE jti IN (
      SELECT r.jti FROM @extschema@.pev_revoked_token r
      WHERE r.expires < now() LIMIT 100 FOR UPDATE SKIP LOCKED);
    DELETE FROM @extschema@.pev_ticket WHERE hash = sha256(convert_to($1, 'UTF8'));
    INSERT INTO @extschema@.pev_revoked_token AS r (jti, expires)
    SELECT i.jti, coalesce($2, i.expires, now() + interval '60 days')
    FROM @extschema@.pev_token_id($1) i
    ON CONFLICT (jti) DO UPDATE
      SET expires = greatest(r.expires, EXCLUDED.expires), xact = EXCLUDED.xact;
    SELECT pg_notify('pev_revoked', '');
  $$;
COMMENT ON FUNCTION pev_revoke_token(text, timestamptz) IS
  'end all streams of a token, a ticket or a jti at once, and refuse it from now on; expires: when to forget it, by default when it says that it expires, else in 60 days, when whatever was made here has; raises 22004, 22023, 22P02';

ALTER FUNCTION pev_ticket(text, interval, interval) OWNER TO @extowner@;
ALTER FUNCTION pev_ticket(bigint, interval, interval) OWNER TO @extowner@;
ALTER FUNCTION pev_ticket(uuid, interval, interval) OWNER TO @extowner@;
ALTER FUNCTION pev_redeem_ticket(bytea, text) OWNER TO @extowner@;
ALTER FUNCTION pev_revoke_token(text, timestamptz) OWNER TO @extowner@;
REVOKE ALL ON FUNCTION pev_token(text, interval, boolean, text, text[], text),
  pev_token(bigint, interval, boolean, text, text[], text), pev_token(uuid, interval, boolean, text, text[], text),
  pev_ticket(text, interval, interval), pev_ticket(bigint, interval, interval),
  pev_ticket(uuid, interval, interval), pev_redeem_ticket(bytea, text),
  pev_revoke_token(text, timestamptz) FROM PUBLIC;

-- The notifier --------------------------------------------------------------------------------

CREATE FUNCTION pev_notifier_status(
    OUT database text, OUT state text, OUT pid integer, OUT waiting bigint, OUT doorbells bigint,
    OUT batches bigint, OUT notifications bigint, OUT overflows bigint, OUT live bigint,
    OUT live_dropped bigint, OUT lag_last_ms double precision, OUT lag_max_ms double precision,
    OUT changed_at timestamptz) RETURNS SETOF record
  LANGUAGE c VOLATILE PARALLEL SAFE ROWS 8 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_notifier_status() IS 'a row for every database that has or had a notifier; none without shared_preload_libraries';
CREATE VIEW pev_notifier_status AS SELECT * FROM @extschema@.pev_notifier_status();
COMMENT ON VIEW pev_notifier_status IS 'the notifiers of the cluster, which ring the doorbell for committing sessions';
COMMENT ON COLUMN pev_notifier_status.database IS 'its database; NULL: dropped since';
COMMENT ON COLUMN pev_notifier_status.state IS 'stopped, starting or running';
COMMENT ON COLUMN pev_notifier_status.pid IS 'process id of the background worker';
COMMENT ON COLUMN pev_notifier_status.waiting IS 'doorbells not yet rung';
COMMENT ON COLUMN pev_notifier_status.doorbells IS 'doorbells that commits left to the notifier';
COMMENT ON COLUMN pev_notifier_status.batches IS 'transactions in which the notifier rang';
COMMENT ON COLUMN pev_notifier_status.notifications IS 'NOTIFYs it sent';
COMMENT ON COLUMN pev_notifier_status.overflows IS 'times it rang for all streams because there were too many';
COMMENT ON COLUMN pev_notifier_status.live IS 'events that are not stored, and news of jobs, posted by commits';
COMMENT ON COLUMN pev_notifier_status.live_dropped IS 'those of them dropped for lack of room';
COMMENT ON COLUMN pev_notifier_status.lag_last_ms IS 'milliseconds that the oldest doorbell of the last batch had waited';
COMMENT ON COLUMN pev_notifier_status.lag_max_ms IS 'the longest such wait';
COMMENT ON COLUMN pev_notifier_status.changed_at IS 'when state last changed';
ALTER VIEW pev_notifier_status OWNER TO @extowner@;
GRANT SELECT ON pev_notifier_status TO PUBLIC;

CREATE FUNCTION pev_start_notifier() RETURNS boolean
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_start_notifier() IS
  'ask for this database''s notifier, as its first event does; whether it runs already; false without shared_preload_libraries';

-- A notifier that ended, with the server or alone, is missed by the actions that wait (approval.sql)
-- until the next event.  Streamers ask for it now and then; they need no right on the table.
CREATE FUNCTION pev_watch_approvals() RETURNS boolean
  LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT @extschema@.pev_start_notifier()
    WHERE EXISTS (SELECT FROM @extschema@.pev_approval a WHERE a.decision IS NULL)
  $$;
COMMENT ON FUNCTION pev_watch_approvals() IS
  'see to it that the notifier runs if actions wait for approval: whether it does already; NULL: none waits';
ALTER FUNCTION pev_watch_approvals() OWNER TO @extowner@;

-- Whoever listens knows keys by the numbers they had in an extension that was dropped.
NOTIFY pev, 'new';

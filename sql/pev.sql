-- pev: objects of the extension.  plan.sql adds plans, approval.sql the approval of actions,
-- catalogue.sql the event types, functions.sql the functions, jobs.sql the queue of jobs, agents.sql
-- what is asked of the sessions of agents.

\echo Use "CREATE EXTENSION pev" to load this file. \quit

-- Every type of event there is.  pev_event_type holds what pev knows of each.
CREATE TYPE assistant_event_type AS ENUM (
  -- execution
  'execution-start', 'execution-complete', 'execution-error',
  'prompt-start', 'prompt-complete',
  'knowledge-retrieval-start', 'knowledge-retrieved',
  'variable-substitution',
  'tool-execution-start', 'tool-execution-complete',
  'progress',
  -- pipeline
  'PipelineStatus', 'Error', 'Result', 'PhaseStatus', 'TokenCount',
  -- channel
  'generation_started', 'generation_progress', 'generation_complete', 'generation_failed',
  'ai_chat_chunk',
  'upload_started', 'upload_progress', 'upload_complete', 'upload_failed',
  'chat', 'ai_chat', 'presence', 'typing',
  -- iteration
  'StreamingProgressEvent',
  -- agent
  'llm_token', 'action_started', 'shield_verdict', 'action_completed', 'response_complete',
  'otr_blocked', 'error', 'tier3_approval_required', 'tier3_approval_resolved', 'log_entry',
  'sub_agent_spawned', 'sub_agent_progress', 'sub_agent_completed', 'sub_agent_failed',
  'sub_agent_cancelled'
);
COMMENT ON TYPE assistant_event_type IS 'types of event; see pev_event_type for their schemas';

-- The C code knows the columns of the tables below by their position.

-- Names are compared bytewise everywhere, so that C code may search the indexes directly.
CREATE TABLE pev_event_type (
  name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z][A-Za-z0-9._-]{0,62}$'),
  family text COLLATE "C" NOT NULL CHECK (family ~ '^[a-z][a-z0-9_-]{0,62}$'),
  description text NOT NULL,
  schema jsonb NOT NULL,
  terminal_when jsonb,
  durable boolean NOT NULL DEFAULT true,
  global boolean NOT NULL DEFAULT false,
  priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('critical', 'normal', 'bulk')),
  max_bytes integer NOT NULL DEFAULT 65536 CHECK (max_bytes BETWEEN 2 AND 268435455),
  builtin boolean NOT NULL DEFAULT false,
  CHECK (durable OR terminal_when IS NULL),
  CHECK (durable OR max_bytes <= 7000),
  CHECK (NOT (durable AND global))
);
COMMENT ON TABLE pev_event_type IS 'catalogue of event types, one row a value of assistant_event_type';
COMMENT ON COLUMN pev_event_type.name IS 'the value of assistant_event_type, and the SSE event field';
COMMENT ON COLUMN pev_event_type.family IS 'group of types that one kind of application emits';
COMMENT ON COLUMN pev_event_type.description IS 'what an event of this type says';
COMMENT ON COLUMN pev_event_type.schema IS 'JSON Schema that event_data must conform to; x-pev-stamp on a property names the value supplied when it is absent, x-pev-round the decimals a number is rounded to';
COMMENT ON COLUMN pev_event_type.terminal_when IS 'JSON Schema over event_data; an event for which it holds closes its stream; NULL: never';
COMMENT ON COLUMN pev_event_type.durable IS 'false: delivered to whoever listens, not stored';
COMMENT ON COLUMN pev_event_type.global IS 'delivered to every subscriber, whatever stream they watch; only for types that are not stored';
COMMENT ON COLUMN pev_event_type.priority IS 'critical: delivered at once; bulk: may be grouped with others; normal: neither';
COMMENT ON COLUMN pev_event_type.max_bytes IS 'largest event_data, in bytes of jsonb';
COMMENT ON COLUMN pev_event_type.builtin IS 'as it came with the extension; false once a user has written the row';

CREATE TABLE pev_stream_kind (
  prefix text COLLATE "C" PRIMARY KEY CHECK (prefix ~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$'),
  description text NOT NULL,
  families text[],
  builtin boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE pev_stream_kind IS 'prefixes that stream keys may begin with, as in user:u_1';
COMMENT ON COLUMN pev_stream_kind.prefix IS 'what stands before the colon';
COMMENT ON COLUMN pev_stream_kind.description IS 'what streams of this kind are for';
COMMENT ON COLUMN pev_stream_kind.builtin IS 'as it came with the extension; false once a user has written the row';
COMMENT ON COLUMN pev_stream_kind.families IS 'event families that these streams carry; NULL: all';

INSERT INTO pev_stream_kind VALUES
  ('user', 'private events of one user', '{channel}', true),
  ('channel', 'shared events of a room or topic', '{channel}', true),
  ('session', 'one session of an agent', '{agent}', true);

CREATE TABLE pev_stream (
  id bigint GENERATED ALWAYS AS IDENTITY (START WITH -1 INCREMENT BY -1 MAXVALUE -1) PRIMARY KEY,
  key text COLLATE "C" NOT NULL UNIQUE,
  kind text COLLATE "C" REFERENCES pev_stream_kind,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pev_stream IS 'streams that are named by a key; rows are made by the first event of a key';
COMMENT ON COLUMN pev_stream.id IS 'execution_id of the stream''s events; below zero, so that it never meets an application''s own';
COMMENT ON COLUMN pev_stream.key IS 'UUID, word or prefix:name; UUIDs in lower case';
COMMENT ON COLUMN pev_stream.kind IS 'prefix of the key; NULL: it has none';
COMMENT ON COLUMN pev_stream.created_at IS 'when the first event of the key came';

CREATE TABLE assistant_architect_events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  execution_id bigint NOT NULL,
  seq bigint NOT NULL,
  event_type assistant_event_type NOT NULL,
  event_data jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  UNIQUE (execution_id, seq)
);
CREATE INDEX ON assistant_architect_events (event_type);
COMMENT ON TABLE assistant_architect_events IS 'events, numbered 1, 2, 3, … per execution_id in the order of their commits';
COMMENT ON COLUMN assistant_architect_events.id IS 'order of arrival';
COMMENT ON COLUMN assistant_architect_events.execution_id IS 'the stream: an application''s number, or pev_stream.id';
COMMENT ON COLUMN assistant_architect_events.seq IS 'position in the stream, without gaps; the SSE id';
COMMENT ON COLUMN assistant_architect_events.event_type IS 'what the event says; see pev_event_type';
COMMENT ON COLUMN assistant_architect_events.event_data IS 'what clients receive';
COMMENT ON COLUMN assistant_architect_events.created_at IS 'when the event was numbered; sorts as seq does';

-- What the streamer admits clients by, besides tokens, which nobody keeps: see functions.sql.

CREATE TABLE pev_ticket (
  hash bytea PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  redeem_before timestamptz NOT NULL,
  lifetime interval NOT NULL,
  redeemed_at timestamptz,
  expires timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON pev_ticket (coalesce(expires, redeem_before));
COMMENT ON TABLE pev_ticket IS 'one-time tickets, made by pev_ticket(); a dump leaves them out';
COMMENT ON COLUMN pev_ticket.hash IS 'SHA-256 of the ticket, which is kept nowhere';
COMMENT ON COLUMN pev_ticket.stream IS 'key of the stream that it admits to';
COMMENT ON COLUMN pev_ticket.redeem_before IS 'when it becomes worthless unless it has been redeemed';
COMMENT ON COLUMN pev_ticket.lifetime IS 'how long it is good for reconnecting after it has been redeemed';
COMMENT ON COLUMN pev_ticket.redeemed_at IS 'when it was first used; NULL: not yet';
COMMENT ON COLUMN pev_ticket.expires IS 'when its lifetime ends; NULL: not redeemed yet';
COMMENT ON COLUMN pev_ticket.created_at IS 'when it was made';

CREATE TABLE pev_revoked_token (
  jti text COLLATE "C" PRIMARY KEY,
  expires timestamptz NOT NULL,
  xact xid8 NOT NULL,
  revoked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON pev_revoked_token (xact);
CREATE INDEX ON pev_revoked_token (expires);
COMMENT ON TABLE pev_revoked_token IS 'tokens revoked by pev_revoke_token()';
COMMENT ON COLUMN pev_revoked_token.jti IS 'id of the token; of a ticket, its hash in hexadecimal';
COMMENT ON COLUMN pev_revoked_token.expires IS 'when the token expires anyway and the row can go';
COMMENT ON COLUMN pev_revoked_token.xact IS 'transaction that brought it here, by which streamers find what they have not seen';
COMMENT ON COLUMN pev_revoked_token.revoked_at IS 'when it was revoked';

-- What pev_emit_once() has answered; see functions.sql.

CREATE TABLE pev_idempotency (
  stream text COLLATE "C" NOT NULL,
  key_hash bytea NOT NULL,
  request_hash bytea NOT NULL,
  seq bigint,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (stream, key_hash)
);
CREATE INDEX ON pev_idempotency (created_at);
COMMENT ON TABLE pev_idempotency IS 'keys that events were emitted under by pev_emit_once(), for 24 hours';
COMMENT ON COLUMN pev_idempotency.stream IS 'key of the stream, within which an idempotency key is unique';
COMMENT ON COLUMN pev_idempotency.key_hash IS 'SHA-256 of the idempotency key';
COMMENT ON COLUMN pev_idempotency.request_hash IS 'SHA-256 of the events, by which other events under the same key are found out';
COMMENT ON COLUMN pev_idempotency.seq IS 'what was answered: the last seq; NULL: nothing was stored';
COMMENT ON COLUMN pev_idempotency.created_at IS 'when the events were emitted';

-- Triggers.  All work on an event is in these, so that INSERT and COPY do what pev_emit() does.

CREATE FUNCTION pev_before_insert() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_before_insert() IS 'stamps, validates and numbers an event';
CREATE FUNCTION pev_after_insert() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_after_insert() IS 'rings the doorbell for an event';
CREATE FUNCTION pev_before_update() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_before_update() IS 'refuses to change an event';
CREATE FUNCTION pev_before_delete() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_before_delete() IS 'keeps the last event of a stream';
CREATE FUNCTION pev_catalog_check() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_catalog_check() IS 'refuses an event type whose schema does not compile, and to remove one';
CREATE FUNCTION pev_catalog_own() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_catalog_own() IS 'marks what users write in the catalogue as theirs';
CREATE FUNCTION pev_catalog_changed() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_catalog_changed() IS 'makes all sessions read the catalogue anew';
CREATE FUNCTION pev_revoked_stamp() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_revoked_stamp() IS 'notes which transaction brings a revoked token';
REVOKE ALL ON FUNCTION pev_before_insert(), pev_after_insert(), pev_before_update(),
  pev_before_delete(), pev_catalog_check(), pev_catalog_own(), pev_catalog_changed(),
  pev_revoked_stamp() FROM PUBLIC;

CREATE TRIGGER pev_before_insert BEFORE INSERT ON assistant_architect_events
  FOR EACH ROW EXECUTE FUNCTION pev_before_insert();
CREATE TRIGGER pev_after_insert AFTER INSERT ON assistant_architect_events
  FOR EACH ROW EXECUTE FUNCTION pev_after_insert();
CREATE TRIGGER pev_before_update BEFORE UPDATE ON assistant_architect_events
  FOR EACH ROW EXECUTE FUNCTION pev_before_update();
CREATE TRIGGER pev_before_delete BEFORE DELETE ON assistant_architect_events
  FOR EACH ROW EXECUTE FUNCTION pev_before_delete();

CREATE TRIGGER pev_catalog_check BEFORE INSERT OR UPDATE OR DELETE ON pev_event_type
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_check();
CREATE TRIGGER pev_catalog_keep BEFORE TRUNCATE ON pev_event_type
  EXECUTE FUNCTION pev_catalog_check();
CREATE TRIGGER pev_catalog_own BEFORE INSERT OR UPDATE ON pev_event_type
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_own();
CREATE TRIGGER pev_catalog_own BEFORE INSERT OR UPDATE ON pev_stream_kind
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_own();
-- Of rows, for replication fires no others; TRUNCATE gives a table a new file, which all notice.
CREATE TRIGGER pev_catalog_changed AFTER INSERT OR UPDATE OR DELETE ON pev_event_type
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_changed();
CREATE TRIGGER pev_catalog_changed AFTER INSERT OR UPDATE OR DELETE ON pev_stream_kind
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_changed();
CREATE TRIGGER pev_catalog_changed AFTER UPDATE OR DELETE ON pev_stream
  FOR EACH ROW EXECUTE FUNCTION pev_catalog_changed();
CREATE TRIGGER pev_revoked_stamp BEFORE INSERT ON pev_revoked_token
  FOR EACH ROW EXECUTE FUNCTION pev_revoked_stamp();

-- Replicated rows are stamped, validated and numbered already, but every node has its own
-- listeners and its own sessions.
ALTER TABLE assistant_architect_events ENABLE ALWAYS TRIGGER pev_after_insert,
  ENABLE ALWAYS TRIGGER pev_before_update, ENABLE ALWAYS TRIGGER pev_before_delete;
ALTER TABLE pev_event_type ENABLE ALWAYS TRIGGER pev_catalog_changed;
ALTER TABLE pev_stream_kind ENABLE ALWAYS TRIGGER pev_catalog_changed;
ALTER TABLE pev_stream ENABLE ALWAYS TRIGGER pev_catalog_changed;
ALTER TABLE pev_revoked_token ENABLE ALWAYS TRIGGER pev_revoked_stamp;

-- What pg_dump saves: everything that did not come with the extension.
SELECT pg_extension_config_dump('pev_event_type', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('pev_stream_kind', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('pev_stream', '');
SELECT pg_extension_config_dump('pev_stream_id_seq', '');
SELECT pg_extension_config_dump('pev_revoked_token', '');
-- With the events go the keys that they came under, or a retry after a restore would store them again.
SELECT pg_extension_config_dump('pev_idempotency', '');
SELECT pg_extension_config_dump('assistant_architect_events', '');
SELECT pg_extension_config_dump('assistant_architect_events_id_seq', '');

-- The data belongs to whoever created the extension, superuser or not.
ALTER TABLE pev_event_type OWNER TO @extowner@;
ALTER TABLE pev_stream_kind OWNER TO @extowner@;
ALTER TABLE pev_stream OWNER TO @extowner@;
ALTER TABLE pev_ticket OWNER TO @extowner@;
ALTER TABLE pev_revoked_token OWNER TO @extowner@;
ALTER TABLE pev_idempotency OWNER TO @extowner@;
ALTER TABLE assistant_architect_events OWNER TO @extowner@;

-- The catalogue describes; it holds no data of anyone's.
GRANT SELECT ON pev_event_type, pev_stream_kind TO PUBLIC;

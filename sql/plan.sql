-- Plans: phases, from whose local events the status of a pipeline is computed.  The C code knows the
-- columns of the table by their position, and wants it to be there before the catalogue is filled.

-- A row changes with every local event; room for its next version in the same page keeps that cheap.
CREATE TABLE pev_plan (
  execution_id bigint PRIMARY KEY,
  names text[] NOT NULL,
  labels text[] NOT NULL,
  weights double precision[] NOT NULL,
  tokens_every interval NOT NULL,
  reached smallint[] NOT NULL,
  phase integer NOT NULL DEFAULT 0,
  description text NOT NULL DEFAULT '',
  tokens bigint NOT NULL DEFAULT 0,
  told_tokens bigint NOT NULL DEFAULT 0,
  told_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE pev_plan IS 'plans made by pev_plan(), and where they stand; a row goes with the event that closes its stream';
COMMENT ON COLUMN pev_plan.execution_id IS 'the stream: an application''s number, or pev_stream.id';
COMMENT ON COLUMN pev_plan.names IS 'canonical names of the phases';
COMMENT ON COLUMN pev_plan.labels IS 'their names for people';
COMMENT ON COLUMN pev_plan.weights IS 'their shares in the progress of the whole';
COMMENT ON COLUMN pev_plan.tokens_every IS 'how long TokenCount events wait for each other before a PipelineStatus tells their sum';
COMMENT ON COLUMN pev_plan.reached IS 'the furthest progress of each phase, in hundredths';
COMMENT ON COLUMN pev_plan.phase IS 'the current phase, counted from 1; 0: none has begun';
COMMENT ON COLUMN pev_plan.description IS 'current activity in that phase';
COMMENT ON COLUMN pev_plan.tokens IS 'tokens used so far';
COMMENT ON COLUMN pev_plan.told_tokens IS 'tokenCount of the last PipelineStatus';
COMMENT ON COLUMN pev_plan.told_at IS 'when that was; NULL: there was none';

SELECT pg_extension_config_dump('pev_plan', '');
ALTER TABLE pev_plan OWNER TO @extowner@;

CREATE FUNCTION pev_plan(stream text, phases jsonb, tokens_every interval DEFAULT '250 ms') RETURNS void
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
CREATE FUNCTION pev_plan(stream bigint, phases jsonb, tokens_every interval DEFAULT '250 ms') RETURNS void
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_plan(stream::text, phases, tokens_every) $$;
CREATE FUNCTION pev_plan(stream uuid, phases jsonb, tokens_every interval DEFAULT '250 ms') RETURNS void
  LANGUAGE sql VOLATILE PARALLEL UNSAFE
  AS $$ SELECT @extschema@.pev_plan(stream::text, phases, tokens_every) $$;
COMMENT ON FUNCTION pev_plan(text, jsonb, interval) IS
  'declare the phases of a stream, [{"name": …, "label": …, "weight": …}, …], so that its PipelineStatus is computed from PhaseStatus and TokenCount; tokens_every (0 to 1 hour): how long TokenCount events may wait for each other; needs INSERT on pev_plan; raises 22003, 22004, 22023, 42704, 55000';
COMMENT ON FUNCTION pev_plan(bigint, jsonb, interval) IS
  'declare the phases of a stream; raises 22004, 22023, 55000';
COMMENT ON FUNCTION pev_plan(uuid, jsonb, interval) IS
  'declare the phases of the stream named by a UUID; raises 22004, 22023, 55000';

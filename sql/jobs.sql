-- Jobs: a queue in a table, whose workers claim, report, complete and fail, each time with the
-- event that tells the job's channel in the same transaction.
--
-- A job that is not finished has a time, run_at: when it may first be claimed, or when the lease of
-- whoever has claimed it expires.  So what is queued and what a dead worker held are found in the
-- same way.  A claim is an attempt, and the attempt's number is what its worker must show later: who
-- was too slow and has been superseded has a number that no longer fits, and cannot tell an outcome.
--
-- Locks: a job's row first, then its channel's turn, which emitting takes.  Who holds a turn waits
-- for no row, since claiming leaves out rows that are locked; and the one call that takes two turns,
-- a claim that also finds a job to be given up, takes them in the order of their channels.  So calls
-- that have a transaction to themselves never wait for each other in a circle.

CREATE TABLE pev_job_kind (
  kind text COLLATE "C" PRIMARY KEY CHECK (kind ~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$'),
  description text NOT NULL,
  events text CHECK (events IN ('generation', 'upload')),
  max_attempts integer NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
  backoff interval NOT NULL DEFAULT '1 s' CHECK (backoff BETWEEN '0' AND '1 hour')
);
COMMENT ON TABLE pev_job_kind IS 'kinds of job that can be queued, declared by pev_register_job_kind()';
COMMENT ON COLUMN pev_job_kind.kind IS 'what workers claim by';
COMMENT ON COLUMN pev_job_kind.description IS 'what jobs of this kind do';
COMMENT ON COLUMN pev_job_kind.events IS 'events that tell of them: generation (generation_started, …) or upload; NULL: none, workers emit what there is to tell';
COMMENT ON COLUMN pev_job_kind.max_attempts IS 'how often a job is tried, unless it says itself';
COMMENT ON COLUMN pev_job_kind.backoff IS 'longest wait before the second attempt; doubled for each one after it, up to an hour';

CREATE TABLE pev_job (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text COLLATE "C" NOT NULL REFERENCES pev_job_kind,
  channel text COLLATE "C" NOT NULL,
  payload jsonb NOT NULL,
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'completed', 'failed')),
  attempts integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
  max_attempts integer NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
  run_at timestamptz NOT NULL DEFAULT now(),
  lease interval,
  worker text,
  error text,
  key_hash bytea,
  request_hash bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  CHECK ((key_hash IS NULL) = (request_hash IS NULL)),
  CHECK (state <> 'queued' OR attempts < max_attempts),
  CHECK ((state = 'running') = (lease IS NOT NULL)),
  CHECK ((state IN ('completed', 'failed')) = (finished_at IS NOT NULL))
)
-- Each job leaves two dead entries or more in the index that claims read from its lower end, where
-- nothing is inserted that would clear them away: only VACUUM does, which must not go by the size of
-- a table that is full of finished jobs.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
      vacuum_index_cleanup = on);
-- Every job that is not finished is in one of these two.
CREATE INDEX pev_job_claim ON pev_job (kind, run_at, id)
  WHERE state IN ('queued', 'running') AND attempts < max_attempts;
CREATE INDEX pev_job_last_attempt ON pev_job (kind, run_at)
  WHERE state = 'running' AND attempts >= max_attempts;
CREATE UNIQUE INDEX pev_job_key ON pev_job (key_hash) WHERE key_hash IS NOT NULL;
COMMENT ON TABLE pev_job IS 'jobs: those to do, those being done, and what became of the others';
COMMENT ON COLUMN pev_job.id IS 'jobId of the job''s events';
COMMENT ON COLUMN pev_job.kind IS 'what is to be done; see pev_job_kind';
COMMENT ON COLUMN pev_job.channel IS 'key of the stream that its events go to';
COMMENT ON COLUMN pev_job.payload IS 'what the worker is told';
COMMENT ON COLUMN pev_job.state IS 'queued, running, completed or failed';
COMMENT ON COLUMN pev_job.attempts IS 'how often it was claimed; the number of the latest attempt';
COMMENT ON COLUMN pev_job.max_attempts IS 'how often it may be';
COMMENT ON COLUMN pev_job.run_at IS 'queued: when it may be claimed; running: when its lease expires, and it may be claimed again';
COMMENT ON COLUMN pev_job.lease IS 'running: how long a lease is';
COMMENT ON COLUMN pev_job.worker IS 'who made the latest attempt';
COMMENT ON COLUMN pev_job.error IS 'why the latest attempt that failed did';
COMMENT ON COLUMN pev_job.key_hash IS 'SHA-256 of its channel and the idempotency key that it was queued under; NULL: none';
COMMENT ON COLUMN pev_job.request_hash IS 'SHA-256 of that key and what was asked for, by which another job under the same key is found out';
COMMENT ON COLUMN pev_job.created_at IS 'when it was queued';
COMMENT ON COLUMN pev_job.finished_at IS 'when it was completed or failed for good';

SELECT pg_extension_config_dump('pev_job_kind', '');
SELECT pg_extension_config_dump('pev_job', '');
SELECT pg_extension_config_dump('pev_job_id_seq', '');
ALTER TABLE pev_job_kind OWNER TO @extowner@;
ALTER TABLE pev_job OWNER TO @extowner@;
GRANT SELECT ON pev_job_kind TO PUBLIC;

CREATE FUNCTION pev_register_job_kind(kind text, description text, events text DEFAULT NULL,
                                      max_attempts integer DEFAULT 5,
                                      backoff interval DEFAULT '1 s') RETURNS void
  LANGUAGE sql VOLATILE
  AS $$
    INSERT INTO @extschema@.pev_job_kind AS k (kind, description, events, max_attempts, backoff)
    VALUES (kind, description, events, max_attempts, backoff)
    ON CONFLICT (kind) DO UPDATE
      SET description = EXCLUDED.description, events = EXCLUDED.events,
        max_attempts = EXCLUDED.max_attempts, backoff = EXCLUDED.backoff
  $$;
COMMENT ON FUNCTION pev_register_job_kind(text, text, text, integer, interval) IS
  'declare a kind of job and the events that tell of it (generation, upload, or NULL: none), or change it; needs INSERT and UPDATE on pev_job_kind; raises 23502, 23514';

CREATE FUNCTION pev_ring_job(kind text) RETURNS void
  LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION pev_ring_job(text) IS
  'wake the workers that wait for jobs of this kind: NOTIFY pev_job when the transaction has committed; raises 54000';

-- Who cannot know whether a job is queued asks for it again under the same key.  The key is in the
-- job's row, for as long as that is there: of those who come with it at once, all wait for the first
-- and then find its job.  Only hashes are compared, so that queueing needs no right to read what
-- others have queued; the key is in both, lest a payload be found by guessing it.
CREATE FUNCTION pev_enqueue(kind text, payload jsonb, channel text, run_at timestamptz DEFAULT NULL,
                            max_attempts integer DEFAULT NULL, idempotency_key text DEFAULT NULL)
  RETURNS bigint
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      max_payload CONSTANT integer := 1048576;
      this_kind @extschema@.pev_job_kind;
      this_channel text;
      this_key bytea;
      this_request bytea;
      job bigint;
      known record;
    BEGIN
      IF $1 IS NULL OR $2 IS NULL OR $3 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $1 IS NULL THEN 'kind' WHEN $2 IS NULL THEN 'payload' ELSE 'channel' END);
      END IF;
      SELECT k.* INTO this_kind FROM @extschema@.pev_job_kind k WHERE k.kind = $1;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'job kind "%" is not declared', left($1, 63) USING ERRCODE = '42704',
          HINT = 'Declare it with pev_register_job_kind().';
      END IF;
      IF $5 NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'max_attempts must be between 1 and 100' USING ERRCODE = '22023';
      END IF;
      this_channel := (SELECT p.canonical FROM @extschema@.pev_stream_key_parse($3) p);
      IF NOT EXISTS (SELECT FROM @extschema@.pev_stream_kind k
                     WHERE this_channel LIKE '%:%' AND k.prefix = split_part(this_channel, ':', 1)
                       AND (k.families IS NULL OR 'channel' = ANY (k.families))) THEN
        RAISE EXCEPTION 'stream "%" cannot be the channel of a job', $3 USING ERRCODE = '22023',
          DETAIL = 'A channel is a stream of a declared kind that carries events of family "channel".',
          HINT = 'Take one such as user:u_1 or channel:general, or declare its kind with pev_register_stream_kind().';
      END IF;
      IF octet_length($2::text) > max_payload THEN -- its column may be compressed
        RAISE EXCEPTION 'payload of a job is too large' USING ERRCODE = '54000',
          DETAIL = format('It takes %s bytes as text; %s are allowed.', octet_length($2::text), max_payload),
          HINT = 'Store it elsewhere, and queue a reference to it.';
      END IF;
      PERFORM @extschema@.pev_check_idempotency_key($6);
      IF $6 IS NOT NULL THEN
        this_key := sha256(convert_to(jsonb_build_array(this_channel, $6)::text, 'UTF8'));
        this_request := sha256(convert_to(jsonb_build_array($6, $1, $2)::text, 'UTF8'));
      END IF;
      INSERT INTO @extschema@.pev_job AS j (kind, channel, payload, run_at, max_attempts, key_hash, request_hash)
      VALUES ($1, this_channel, $2, coalesce($4, now()), coalesce($5, this_kind.max_attempts), this_key, this_request)
      ON CONFLICT (key_hash) WHERE key_hash IS NOT NULL DO NOTHING
      RETURNING j.id INTO job;
      IF job IS NULL THEN
        SELECT j.id, j.request_hash INTO known FROM @extschema@.pev_job j WHERE j.key_hash = this_key;
        IF NOT FOUND THEN
          RAISE EXCEPTION 'the job of this idempotency key was deleted just now' USING ERRCODE = '40001',
            HINT = 'Ask for it again.';
        ELSIF known.request_hash <> this_request THEN
          RAISE EXCEPTION 'idempotency key was used for another job' USING ERRCODE = '22023',
            HINT = 'Take a new key for a new job.';
        END IF;
        RETURN known.id;
      END IF;
      IF $4 IS NULL OR $4 <= clock_timestamp() THEN
        PERFORM @extschema@.pev_ring_job($1);
      END IF;
      RETURN job;
    END
  $$;
COMMENT ON FUNCTION pev_enqueue(text, jsonb, text, timestamptz, integer, text) IS
  'queue a job of a declared kind, whose events go to the channel, to run now or at run_at; its id, or that of the job of the same kind and payload that the idempotency key (1 to 255 visible ASCII characters, unique within the channel) was used for; notifies channel pev_job; needs INSERT and SELECT (id, key_hash, request_hash) on pev_job; raises 22004, 22023, 40001 if that job is deleted meanwhile, 42704, 54000';

-- The planner's statistics know a queue as it was at some time, empty or full, and a worker's plan
-- outlives both: without the setting, one that was made when the table was empty reads all of it.
CREATE FUNCTION pev_claim(kinds text[], worker text, lease interval DEFAULT '1 min',
                          OUT job_id bigint, OUT attempt integer, OUT kind text,
                          OUT payload jsonb, OUT channel text) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 1 SET enable_seqscan = off
  AS $$
    DECLARE
      reason CONSTANT text := 'the worker was not heard of again';
      moment CONSTANT timestamptz := clock_timestamp();
      expires CONSTANT timestamptz := moment + @extschema@.pev_lifetime($3, 'lease');
      in_turn text[] := $1;
      candidate text;
      claimed @extschema@.pev_job;
      given_up @extschema@.pev_job;
      give_up_first boolean;
    BEGIN
      IF array_ndims($1) > 1 THEN
        RAISE EXCEPTION 'kinds must be an array of one dimension' USING ERRCODE = '22023';
      ELSIF $1 IS NULL OR array_position($1, NULL) IS NOT NULL OR $2 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $2 IS NULL THEN 'worker' ELSE 'kinds' END);
      END IF;
      FOREACH candidate IN ARRAY $1 LOOP
        IF NOT EXISTS (SELECT FROM @extschema@.pev_job_kind k WHERE k.kind = candidate) THEN
          RAISE EXCEPTION 'job kind "%" is not declared', left(candidate, 63) USING ERRCODE = '42704',
            HINT = 'Declare it with pev_register_job_kind().';
        END IF;
      END LOOP;
      IF cardinality($1) > 1 THEN -- the kind whose next job has waited longest comes first
        in_turn := ARRAY(
          SELECT w.kind FROM unnest($1) w(kind), LATERAL (
            SELECT j.run_at FROM @extschema@.pev_job j
            WHERE j.kind = w.kind AND j.state IN ('queued', 'running')
              AND j.attempts < j.max_attempts AND j.run_at <= moment
            ORDER BY j.run_at, j.id LIMIT 1) first
          ORDER BY first.run_at);
      END IF;
      FOREACH candidate IN ARRAY in_turn LOOP
        UPDATE @extschema@.pev_job u
        SET state = 'running', attempts = u.attempts + 1, run_at = expires, lease = $3, worker = $2
        WHERE u.id = (
          SELECT j.id FROM @extschema@.pev_job j
          WHERE j.kind = candidate AND j.state IN ('queued', 'running')
            AND j.attempts < j.max_attempts AND j.run_at <= moment
          ORDER BY j.run_at, j.id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING u.* INTO claimed;
        EXIT WHEN FOUND;
      END LOOP;
      -- A job whose last attempt's lease has expired.
      SELECT j.* INTO given_up FROM @extschema@.pev_job j
      WHERE j.kind = ANY ($1) AND j.state = 'running' AND j.attempts >= j.max_attempts
        AND j.run_at <= moment
      LIMIT 1 FOR UPDATE SKIP LOCKED;
      -- The turns, in the order of their channels.
      give_up_first := claimed.id IS NULL OR given_up.channel < claimed.channel;
      IF given_up.id IS NOT NULL AND give_up_first THEN
        PERFORM @extschema@.pev_job_give_up(given_up, reason);
      END IF;
      IF claimed.id IS NOT NULL THEN
        PERFORM @extschema@.pev_emit(claimed.channel, k.events || '_started', jsonb_build_object(
          'jobId', claimed.id::text,
          'message', format('Attempt %s of %s', claimed.attempts, claimed.max_attempts)))
        FROM @extschema@.pev_job_kind k WHERE k.kind = claimed.kind AND k.events IS NOT NULL;
        job_id := claimed.id;
        attempt := claimed.attempts;
        kind := claimed.kind;
        payload := claimed.payload;
        channel := claimed.channel;
        RETURN NEXT;
      END IF;
      IF given_up.id IS NOT NULL AND NOT give_up_first THEN
        PERFORM @extschema@.pev_job_give_up(given_up, reason);
      END IF;
    END
  $$;
COMMENT ON FUNCTION pev_claim(text[], text, interval) IS
  'the job of these kinds that has been due longest, for a worker of this name, to be done within the lease (1 s to 30 days); no row: there is none; emits _started; also gives up one job whose last attempt''s lease has expired; needs SELECT and UPDATE on pev_job; raises 22004, 22023, 42704, and what pev_emit raises';

CREATE FUNCTION pev_job_held(job_id bigint, attempt integer) RETURNS pev_job
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      job @extschema@.pev_job;
    BEGIN
      IF $1 IS NULL OR $2 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $1 IS NULL THEN 'job_id' ELSE 'attempt' END);
      END IF;
      SELECT j.* INTO job FROM @extschema@.pev_job j WHERE j.id = $1 FOR UPDATE;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'job % does not exist', $1 USING ERRCODE = '42704';
      END IF;
      IF job.state <> 'running' OR job.attempts <> $2 THEN
        RAISE EXCEPTION 'attempt % does not hold job %', $2, $1 USING ERRCODE = '55000',
          DETAIL = format('The job is %s; its latest attempt is %s.', job.state, job.attempts),
          HINT = 'Drop what was done for it.';
      END IF;
      RETURN job;
    END
  $$;
COMMENT ON FUNCTION pev_job_held(bigint, integer) IS
  'the job''s row, locked, if this attempt holds it; raises 22004, 42704 for no such job, 55000 if the attempt''s lease was lost or the job is finished';

CREATE FUNCTION pev_job_give_up(job pev_job, error text) RETURNS void
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    BEGIN
      UPDATE @extschema@.pev_job j
      SET state = 'failed', lease = NULL, error = $2, finished_at = clock_timestamp()
      WHERE j.id = job.id;
      PERFORM @extschema@.pev_emit(job.channel, k.events || '_failed',
        jsonb_build_object('jobId', job.id::text, 'error', $2))
      FROM @extschema@.pev_job_kind k WHERE k.kind = job.kind AND k.events IS NOT NULL;
    END
  $$;
COMMENT ON FUNCTION pev_job_give_up(pev_job, text) IS
  'make a job that is locked and running a failed one; emits _failed; raises what pev_emit raises';

-- Moves run_at once less than half of the lease is left, so that who reports often leaves no dead rows.
CREATE FUNCTION pev_extend_lease(job_id bigint, attempt integer) RETURNS timestamptz
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      moment CONSTANT timestamptz := clock_timestamp();
      job @extschema@.pev_job := @extschema@.pev_job_held($1, $2);
    BEGIN
      IF job.run_at < moment + job.lease / 2 THEN
        job.run_at := moment + job.lease;
        UPDATE @extschema@.pev_job j SET run_at = job.run_at WHERE j.id = job.id;
      END IF;
      RETURN job.run_at;
    END
  $$;
COMMENT ON FUNCTION pev_extend_lease(bigint, integer) IS
  'give an attempt its lease anew, once less than half of it is left; when it expires; raises 22004, 42704, 55000';

CREATE FUNCTION pev_job_progress(job_id bigint, attempt integer, progress numeric,
                                 message text DEFAULT NULL, bytes_uploaded bigint DEFAULT NULL)
  RETURNS timestamptz
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      expires CONSTANT timestamptz := @extschema@.pev_extend_lease($1, $2);
    BEGIN
      PERFORM @extschema@.pev_emit(j.channel, k.events || '_progress', jsonb_strip_nulls(
        jsonb_build_object('jobId', j.id::text, 'progress', $3, 'message', $4, 'bytesUploaded', $5)))
      FROM @extschema@.pev_job j JOIN @extschema@.pev_job_kind k ON k.kind = j.kind
      WHERE j.id = $1 AND k.events IS NOT NULL;
      RETURN expires;
    END
  $$;
COMMENT ON FUNCTION pev_job_progress(bigint, integer, numeric, text, bigint) IS
  'tell how far an attempt is, 0 to 100, with a message (generation) or the bytes uploaded (upload); extends its lease; when it expires; emits _progress; raises what pev_extend_lease and pev_emit raise';

CREATE FUNCTION pev_complete(job_id bigint, attempt integer, result jsonb DEFAULT 'null') RETURNS void
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      job CONSTANT @extschema@.pev_job := @extschema@.pev_job_held($1, $2);
    BEGIN
      UPDATE @extschema@.pev_job j
      SET state = 'completed', lease = NULL, finished_at = clock_timestamp()
      WHERE j.id = job.id;
      PERFORM @extschema@.pev_emit(job.channel, k.events || '_complete', jsonb_build_object(
        'jobId', job.id::text, 'progress', 100, 'result', $3))
      FROM @extschema@.pev_job_kind k WHERE k.kind = job.kind AND k.events IS NOT NULL;
    END
  $$;
COMMENT ON FUNCTION pev_complete(bigint, integer, jsonb) IS
  'an attempt has done the job; emits _complete with the result; raises 22004, 42704, 55000 if it does not hold the job, and what pev_emit raises';

CREATE FUNCTION pev_fail(job_id bigint, attempt integer, error text, retry boolean DEFAULT true)
  RETURNS timestamptz
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
  AS $$
    DECLARE
      max_error CONSTANT integer := 10000;
      job CONSTANT @extschema@.pev_job := @extschema@.pev_job_held($1, $2);
      wait interval;
      again timestamptz;
    BEGIN
      IF $3 IS NULL OR $4 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $3 IS NULL THEN 'error' ELSE 'retry' END);
      END IF;
      IF NOT $4 OR job.attempts >= job.max_attempts THEN
        PERFORM @extschema@.pev_job_give_up(job, left($3, max_error));
        RETURN NULL;
      END IF;
      -- Half of it by chance, so that what failed together does not come back together.
      SELECT least(k.backoff * 2 ^ least(job.attempts - 1, 20), interval '1 hour') INTO wait
      FROM @extschema@.pev_job_kind k WHERE k.kind = job.kind;
      again := clock_timestamp() + wait * (0.5 + random() / 2);
      UPDATE @extschema@.pev_job j
      SET state = 'queued', lease = NULL, run_at = again, error = left($3, max_error)
      WHERE j.id = job.id;
      RETURN again;
    END
  $$;
COMMENT ON FUNCTION pev_fail(bigint, integer, text, boolean) IS
  'an attempt has failed, for this reason (10,000 characters are kept): when the job may be claimed again, or NULL if it is given up, for its attempts are used up or retry is false; emits _failed if it is given up; raises 22004, 42704, 55000 if the attempt does not hold the job, and what pev_emit raises';

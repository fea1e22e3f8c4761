-- Iterations: a generator tells how far it is by the names of what it tells.

-- The last progress is looked for among the latest events, of which few are of another type; so a call
-- costs the same however long the stream is.  The setting is pev_claim's, for the same reason.
CREATE FUNCTION pev_iteration_progress(
    generation_id uuid, stage text, progress double precision, message text,
    status text DEFAULT 'processing', generation_mode text DEFAULT NULL, ab_group text DEFAULT NULL,
    enhanced_features jsonb DEFAULT NULL, estimated_time_remaining double precision DEFAULT NULL,
    current_file text DEFAULT NULL, partial_output jsonb DEFAULT NULL, phase_info jsonb DEFAULT NULL,
    extra jsonb DEFAULT NULL) RETURNS bigint
  LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET enable_seqscan = off
  AS $$
    DECLARE
      look_back CONSTANT integer := 100;
      least_progress CONSTANT double precision := 0.001;
      this_stream CONSTANT bigint := @extschema@.pev_stream_id($1);
      fields jsonb;
      taken text;
      elapsed double precision;
      former numeric;
      new_seq bigint;
    BEGIN
      IF $1 IS NULL OR $2 IS NULL OR $3 IS NULL OR $4 IS NULL OR $5 IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s must not be null',
          CASE WHEN $1 IS NULL THEN 'generation_id' WHEN $2 IS NULL THEN 'stage'
               WHEN $3 IS NULL THEN 'progress' WHEN $4 IS NULL THEN 'message' ELSE 'status' END);
      END IF;
      IF jsonb_typeof($13) <> 'object' THEN
        RAISE EXCEPTION 'extra must be a JSON object' USING ERRCODE = '22023';
      END IF;
      IF $9 IS NULL AND $5 = 'processing' AND $3 >= least_progress THEN
        SELECT greatest(extract(epoch FROM clock_timestamp() - e.created_at), 0) INTO elapsed
        FROM @extschema@.assistant_architect_events e
        WHERE e.execution_id = this_stream ORDER BY e.seq LIMIT 1;
        $9 := round(elapsed * (1 - $3) / $3);
      END IF;
      SELECT jsonb_object_agg(f.name, f.value) FILTER (WHERE f.value IS NOT NULL),
        min(f.name) FILTER (WHERE $13 ? f.name)
      INTO fields, taken
      FROM (VALUES
        ('generation_id', to_jsonb($1)), ('stage', to_jsonb($2)), ('progress', to_jsonb($3)),
        ('message', to_jsonb($4)), ('status', to_jsonb($5)), ('generation_mode', to_jsonb($6)),
        ('ab_group', to_jsonb($7)), ('enhanced_features', $8),
        ('estimated_time_remaining', to_jsonb($9)), ('current_file', to_jsonb($10)),
        ('partial_output', $11), ('phase_info', $12)) f (name, value);
      IF taken IS NOT NULL THEN
        RAISE EXCEPTION 'extra must not hold "%"', taken USING ERRCODE = '22023',
          HINT = 'It is a parameter of its own.';
      END IF;
      SELECT CASE jsonb_typeof(e.event_data->'progress') WHEN 'number' THEN e.event_data->'progress' END
      INTO former FROM (
        SELECT l.seq, l.event_type, l.event_data FROM @extschema@.assistant_architect_events l
        WHERE l.execution_id = this_stream ORDER BY l.seq DESC LIMIT look_back) e
      WHERE e.event_type = 'StreamingProgressEvent' ORDER BY e.seq DESC LIMIT 1;
      new_seq := @extschema@.pev_emit($1, 'StreamingProgressEvent', coalesce($13, '{}') || fields);
      IF (fields->'progress')::numeric < former AND $5 <> 'failed' THEN
        RAISE WARNING 'progress of generation % goes back from % to %', $1, former, $3
          USING ERRCODE = '01000';
      END IF;
      RETURN new_seq;
    END
  $$;
COMMENT ON FUNCTION pev_iteration_progress(uuid, text, double precision, text, text, text, text,
    jsonb, double precision, text, jsonb, jsonb, jsonb) IS
  'store a StreamingProgressEvent in the stream of its generation; its seq; progress: 0 to 1; estimated_time_remaining: in seconds, by default time since the stream''s first event * (1 - progress) / progress while it is processing; extra: an object of further fields; what is NULL is left out; warns (01000) of a progress that goes back, unless it failed; needs INSERT and SELECT on assistant_architect_events and SELECT on pev_stream; raises 22004, 22023, and what pev_emit raises';

// The event that everybody writes: a prompt-start, as an assistant sends it.

const FIELDS = '"promptId": 101, "promptName": "Read the contract", "position": 1, "totalPrompts": 3, '
  + '"modelId": "model-a", "hasKnowledge": true, "hasTools": false';

// What pev adds to it, so that the peers' rows are as large as pev's.
const STAMPS = '"timestamp": "2025-01-01T00:00:00.000Z", "eventId": "01941f29-7c00-7aaa-9aaa-aaaaaaaaaaaa"';

// The load programs put the time where the @ is.
export const EVENT = `{${FIELDS}}`;
export const STAMPED_EVENT = `{${FIELDS}, ${STAMPS}}`;
export const TIMED_EVENT = `{"ts": @, ${FIELDS}}`;
export const TIMED_STAMPED_EVENT = `{"ts": @, ${FIELDS}, ${STAMPS}}`;

/** How pev and the trigger with pg_notify take events: $1 is the stream, $2 the event or, in a batch, an array. */
export const writes = {
  pev: {
    one: { sql: "SELECT pev_emit($1::bigint, 'prompt-start', $2::jsonb)", item: TIMED_EVENT },
    batch: {
      sql: 'SELECT pev_emit_batch($1::bigint, $2::jsonb)',
      item: `{"type": "prompt-start", "data": ${TIMED_EVENT}}`,
    },
  },
  relay: {
    one: {
      sql: "INSERT INTO notify_events (execution_id, event_type, event_data) VALUES ($1::bigint, 'prompt-start', $2::jsonb)",
      item: TIMED_STAMPED_EVENT,
    },
    batch: {
      sql: `INSERT INTO notify_events (execution_id, event_type, event_data)
            SELECT $1::bigint, 'prompt-start', data FROM jsonb_array_elements($2::jsonb) AS data`,
      item: TIMED_STAMPED_EVENT,
    },
  },
};

-- The catalogue: every event type that comes with pev, its JSON Schema and how it is handled.
--
-- A property that carries x-pev-stamp is filled in when the caller leaves it out: "timestamp" and
-- "unix-time" with the current time, "uuid-v7" with a new UUID, "type" with the type's name, "stream-id"
-- with the stream's number, "stream-name" with its key less the prefix, "message-id" with the setting
-- pev.message_id.

-- execution ---------------------------------------------------------------------------------------

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'execution-start', 'execution', 'an execution begins',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "executionId": {"type": "integer", "x-pev-stamp": "stream-id"},
      "totalPrompts": {"type": "integer"},
      "toolName": {"type": "string"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["executionId", "totalPrompts", "toolName", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'execution-complete', 'execution', 'an execution succeeded; closes the stream',
  'critical', 65536, true, false, 'true', true,
  '{
    "type": "object",
    "properties": {
      "executionId": {"type": "integer", "x-pev-stamp": "stream-id"},
      "totalTokens": {"type": "integer"},
      "duration": {"type": "number", "x-pev-round": 0, "description": "milliseconds; stored rounded to a whole number"},
      "success": {"const": true},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["executionId", "totalTokens", "duration", "success", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'execution-error', 'execution', 'an execution failed; closes the stream unless it is recoverable',
  'critical', 262144, true, false, '{"properties": {"recoverable": {"const": false}}, "required": ["recoverable"]}', true,
  '{
    "type": "object",
    "properties": {
      "executionId": {"type": "integer", "x-pev-stamp": "stream-id"},
      "error": {"type": "string"},
      "promptId": {"type": "integer", "description": "the prompt that failed"},
      "recoverable": {"type": "boolean"},
      "details": {"type": "string", "description": "stack trace or more"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["executionId", "error", "recoverable", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'prompt-start', 'execution', 'a prompt is about to run',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "promptName": {"type": "string"},
      "position": {"type": "integer", "minimum": 1, "description": "place in the chain, from 1"},
      "totalPrompts": {"type": "integer"},
      "modelId": {"type": "string"},
      "hasKnowledge": {"type": "boolean", "description": "has repository context"},
      "hasTools": {"type": "boolean", "description": "has enabled tools"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "promptName", "position", "totalPrompts", "modelId", "hasKnowledge", "hasTools", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'prompt-complete', 'execution', 'a prompt has run',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "outputTokens": {"type": "integer"},
      "duration": {"type": "number", "x-pev-round": 0, "description": "milliseconds; stored rounded to a whole number"},
      "cached": {"type": "boolean", "description": "the response came from a cache"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "outputTokens", "duration", "cached", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'knowledge-retrieval-start', 'execution', 'a search for repository knowledge begins',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "repositories": {"type": "array", "items": {"type": "integer"}, "description": "repository ids"},
      "searchType": {"enum": ["vector", "keyword", "hybrid"]},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "repositories", "searchType", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'knowledge-retrieved', 'execution', 'repository knowledge was found',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "documentsFound": {"type": "integer"},
      "relevanceScore": {"type": "number", "minimum": 0, "maximum": 1, "description": "average, 0 to 1"},
      "tokens": {"type": "integer", "description": "in the retrieved context"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "documentsFound", "relevanceScore", "tokens", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'variable-substitution', 'execution', 'variables of a prompt were replaced',
  'normal', 1048576, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "variables": {"type": "object", "additionalProperties": {"type": "string"}, "description": "values by name"},
      "sourcePrompts": {"type": "array", "items": {"type": "integer"}, "description": "ids of the prompts that gave the values"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "variables", "sourcePrompts", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'tool-execution-start', 'execution', 'a tool begins to run',
  'normal', 262144, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "toolName": {"type": "string"},
      "parameters": {"type": "object"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "toolName", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'tool-execution-complete', 'execution', 'a tool has run',
  'normal', 1048576, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "promptId": {"type": "integer"},
      "toolName": {"type": "string"},
      "success": {"type": "boolean"},
      "result": {"description": "any value"},
      "error": {"type": "string"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["promptId", "toolName", "success", "timestamp", "eventId"]
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'progress', 'execution', 'general progress',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "currentStep": {"type": "integer"},
      "totalSteps": {"type": "integer"},
      "percentage": {"type": "number", "minimum": 0, "maximum": 100, "description": "0 to 100"},
      "message": {"type": "string"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "eventId": {"type": "string", "x-pev-stamp": "uuid-v7"}
    },
    "required": ["currentStep", "totalSteps", "percentage", "message", "timestamp", "eventId"]
  }');

-- pipeline ----------------------------------------------------------------------------------------

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'PipelineStatus', 'pipeline', 'progress of the whole pipeline',
  'normal', 8192, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "PipelineStatus", "x-pev-stamp": "type"},
      "phase": {
        "type": "object",
        "properties": {
          "name": {"type": "string", "description": "canonical name"},
          "label": {"type": "string", "description": "name for people"},
          "description": {"type": "string", "description": "current activity"}
        },
        "required": ["name", "label", "description"],
        "additionalProperties": false
      },
      "progress": {"type": "number", "minimum": 0, "maximum": 1, "x-pev-round": 2, "description": "0 to 1; stored rounded to two decimals"},
      "tokenCount": {"type": "integer", "description": "cumulative"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"}
    },
    "required": ["type", "phase", "progress", "tokenCount", "timestamp"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'Error', 'pipeline', 'an error in any phase',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "Error", "x-pev-stamp": "type"},
      "message": {"type": "string"},
      "phase": {"type": "string", "description": "canonical name of the phase it happened in"},
      "details": {"type": "object"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"}
    },
    "required": ["type", "message", "timestamp"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'Result', 'pipeline', 'the final output; closes the stream',
  'critical', 16777216, true, false, 'true', true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "Result", "x-pev-stamp": "type"},
      "summary": {"type": "string"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"}
    },
    "required": ["type", "summary", "timestamp"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'PhaseStatus', 'pipeline', 'progress of one phase, from the pipeline to the orchestrator',
  'normal', 8192, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "PhaseStatus", "x-pev-stamp": "type"},
      "phase": {"type": "string", "description": "canonical name"},
      "progress": {"type": "number", "minimum": 0, "maximum": 1, "x-pev-round": 2, "description": "0 to 1; stored rounded to two decimals"},
      "description": {"type": "string", "description": "current activity"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"}
    },
    "required": ["type", "phase", "progress", "timestamp"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'TokenCount', 'pipeline', 'tokens used since the last one, from the pipeline to the orchestrator',
  'bulk', 1024, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "TokenCount", "x-pev-stamp": "type"},
      "tokenCount": {"type": "integer", "minimum": 0, "description": "not cumulative"},
      "phase": {"type": "string", "description": "canonical name"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"}
    },
    "required": ["type", "tokenCount", "timestamp"],
    "additionalProperties": false
  }');

-- channel -----------------------------------------------------------------------------------------

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'generation_started', 'channel', 'a worker picked up a job',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "generation_started", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "message"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'generation_progress', 'channel', 'a job has come further',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "generation_progress", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "progress", "message"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'generation_complete', 'channel', 'a job is done',
  'critical', 1048576, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "generation_complete", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"const": 100},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "progress", "result"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'generation_failed', 'channel', 'a job failed',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "generation_failed", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "error"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'ai_chat_chunk', 'channel', 'a piece of generated text',
  'bulk', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "ai_chat_chunk", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {
        "type": "object",
        "properties": {
          "streamId": {"type": "string"},
          "text": {"type": "string"},
          "done": {"type": "boolean"},
          "provider": {"type": "string"}
        },
        "required": ["streamId", "text", "done"]
      },
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "result"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'upload_started', 'channel', 'an upload begins',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "upload_started", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'upload_progress', 'channel', 'a chunk was uploaded',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "upload_progress", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"},
      "bytesUploaded": {"type": "integer"}
    },
    "required": ["type", "timestamp", "jobId", "progress", "bytesUploaded"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'upload_complete', 'channel', 'an upload was processed',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "upload_complete", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {
        "type": "object",
        "properties": {
          "original": {},
          "optimized": {},
          "thumbnail": {}
        },
        "required": ["original", "optimized", "thumbnail"]
      },
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "result"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'upload_failed', 'channel', 'an upload failed',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "upload_failed", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "jobId", "error"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'chat', 'channel', 'a user sent a message',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "chat", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {
        "type": "object",
        "properties": {
          "id": {"type": ["string", "integer"]},
          "content": {"type": "string"},
          "userId": {"type": "string"},
          "userName": {"type": "string"},
          "timestamp": {"type": "string", "format": "date-time"}
        },
        "required": ["id", "content", "userId", "userName", "timestamp"]
      },
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "result"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'ai_chat', 'channel', 'a generated message is complete',
  'normal', 1048576, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "ai_chat", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {
        "type": "object",
        "properties": {
          "id": {"type": ["string", "integer"]},
          "content": {"type": "string"},
          "provider": {"type": "string"},
          "timestamp": {"type": "string", "format": "date-time"}
        },
        "required": ["id", "content", "provider", "timestamp"]
      },
      "error": {"type": "string"}
    },
    "required": ["type", "timestamp", "result"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'presence', 'channel', 'a user joined or left; not stored',
  'normal', 4096, false, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "presence", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"},
      "status": {"type": "string"},
      "userId": {"type": "string"},
      "userName": {"type": "string"}
    },
    "required": ["type", "timestamp", "status", "userId", "userName"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'typing', 'channel', 'a user is typing, or no longer; not stored',
  'normal', 4096, false, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "typing", "x-pev-stamp": "type"},
      "timestamp": {"type": "string", "format": "date-time", "x-pev-stamp": "timestamp"},
      "jobId": {"type": "string", "description": "correlates the events of a job"},
      "progress": {"type": "number", "minimum": 0, "maximum": 100, "description": "percentage"},
      "message": {"type": "string", "description": "status for people"},
      "result": {},
      "error": {"type": "string"},
      "userId": {"type": "string"},
      "isTyping": {"type": "boolean"}
    },
    "required": ["type", "timestamp", "userId", "isTyping"],
    "additionalProperties": false
  }');

-- iteration ---------------------------------------------------------------------------------------

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'StreamingProgressEvent', 'iteration', 'a step of a generation; closes the stream when it completed or failed',
  'normal', 1048576, true, false, '{"properties": {"status": {"enum": ["completed", "failed"]}}, "required": ["status"]}', true,
  '{
    "type": "object",
    "properties": {
      "generation_id": {"type": "string", "format": "uuid", "x-pev-stamp": "stream-name", "description": "UUID of the generation"},
      "status": {"enum": ["processing", "completed", "failed"]},
      "stage": {"type": "string"},
      "progress": {"type": "number", "minimum": 0, "maximum": 1, "description": "0 to 1"},
      "message": {"type": "string"},
      "ab_group": {"type": "string"},
      "enhanced_features": {"type": "object", "additionalProperties": {"type": "boolean"}},
      "generation_mode": {"enum": ["classic", "enhanced"]},
      "estimated_time_remaining": {"type": "number"},
      "current_file": {"type": "string"},
      "partial_output": {"type": "object"},
      "phase_info": {"$ref": "#/$defs/PhaseInfo"},
      "timestamp": {"type": "number", "x-pev-stamp": "unix-time", "description": "Unix time in seconds"}
    },
    "required": ["generation_id", "status", "stage", "progress", "message", "timestamp"],
    "$defs": {
      "PhaseInfo": {
        "type": "object",
        "properties": {
          "total_phases": {"type": "integer"},
          "current_phase": {"type": "integer"},
          "entities_count": {"type": "integer"},
          "phase": {"type": "integer", "description": "number of the current phase"},
          "name": {"type": "string"},
          "files_generated": {"type": "integer", "description": "in this phase"},
          "total_files": {"type": "integer", "description": "so far"}
        },
        "anyOf": [{"required": ["total_phases", "current_phase", "entities_count"]}, {"required": ["phase", "name", "files_generated", "total_files"]}]
      }
    }
  }');

-- agent -------------------------------------------------------------------------------------------

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'llm_token', 'agent', 'a token of the response',
  'bulk', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "llm_token", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "text": {"type": "string"}
    },
    "required": ["type", "session_id", "message_id", "text"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'action_started', 'agent', 'a tool call begins',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "action_started", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "action_started": {
        "type": "object",
        "properties": {
          "tool_name": {"type": "string"},
          "summary": {"type": "string"}
        },
        "required": ["tool_name", "summary"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "action_started"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'shield_verdict', 'agent', 'a proposed action was evaluated',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "shield_verdict", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "shield_verdict": {
        "type": "object",
        "properties": {
          "tool_name": {"type": "string"},
          "decision": {"enum": ["ALLOW", "BLOCK", "ESCALATE"]},
          "tier": {"enum": [0, 1, 2]},
          "confidence": {"type": "number", "minimum": 0, "maximum": 1, "description": "0 to 1"},
          "reasoning": {"type": "string"}
        },
        "required": ["tool_name", "decision", "tier", "confidence", "reasoning"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "shield_verdict"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'action_completed', 'agent', 'a tool call has finished',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "action_completed", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "action_completed": {
        "type": "object",
        "properties": {
          "tool_name": {"type": "string"},
          "success": {"type": "boolean"},
          "summary": {"type": "string"}
        },
        "required": ["tool_name", "success", "summary"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "action_completed"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'response_complete', 'agent', 'the whole response to a message',
  'critical', 16777216, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "response_complete", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "response_complete": {
        "type": "object",
        "properties": {
          "content": {"type": "string"},
          "thoughts": {"type": "array", "items": {"type": "object"}, "description": "extended thinking"}
        },
        "required": ["content"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "response_complete"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'otr_blocked', 'agent', 'an action was blocked because the session is off the record',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "otr_blocked", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "otr_blocked": {
        "type": "object",
        "properties": {
          "reason": {"type": "string"}
        },
        "required": ["reason"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "otr_blocked"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'error', 'agent', 'an error of the pipeline',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "error", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "error": {
        "type": "object",
        "properties": {
          "code": {"type": "string", "description": "for machines"},
          "message": {"type": "string", "description": "for people"},
          "recoverable": {"type": "boolean"}
        },
        "required": ["code", "message", "recoverable"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "error"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'tier3_approval_required', 'agent', 'a person must approve an action',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "tier3_approval_required", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "tier3_approval": {
        "type": "object",
        "properties": {
          "action_id": {"type": "string", "maxLength": 200},
          "tool_name": {"type": "string"},
          "reasoning": {"type": "string"},
          "timeout_secs": {"type": "integer", "minimum": 1, "maximum": 2147483647, "description": "seconds until it is denied"}
        },
        "required": ["action_id", "tool_name", "reasoning", "timeout_secs"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "tier3_approval"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'tier3_approval_resolved', 'agent', 'an action was approved or denied',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "tier3_approval_resolved", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "tier3_approval_resolved": {
        "type": "object",
        "properties": {
          "action_id": {"type": "string", "maxLength": 200},
          "decision": {"enum": ["approved", "denied"]},
          "by": {"type": "string", "description": "who decided"},
          "reason": {"enum": ["decision", "timeout"]}
        },
        "required": ["action_id", "decision", "reason"],
        "additionalProperties": false,
        "if": {"properties": {"reason": {"const": "timeout"}}, "required": ["reason"]},
        "then": {"properties": {"decision": {"const": "denied"}, "by": false}}
      }
    },
    "required": ["type", "session_id", "message_id", "tier3_approval_resolved"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'log_entry', 'agent', 'a log line for every client, of no session; not stored',
  'bulk', 7000, false, true, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "log_entry", "x-pev-stamp": "type"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "log_entry": {
        "type": "object",
        "properties": {
          "level": {"enum": ["debug", "info", "warn", "error"]},
          "event": {"type": "string", "description": "structured event name"},
          "message": {"type": "string"},
          "fields": {"type": "object"}
        },
        "required": ["level", "event", "message", "fields"],
        "additionalProperties": false
      }
    },
    "required": ["type", "log_entry"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'sub_agent_spawned', 'agent', 'a sub-agent starts work',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "sub_agent_spawned", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "sub_agent_spawned": {
        "type": "object",
        "properties": {
          "name": {"type": "string"},
          "task": {"type": "string"},
          "tool_groups": {"type": "array", "items": {"type": "string"}}
        },
        "required": ["name", "task"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "sub_agent_spawned"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'sub_agent_progress', 'agent', 'a sub-agent is at work',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "sub_agent_progress", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "sub_agent_progress": {
        "type": "object",
        "properties": {
          "name": {"type": "string"},
          "llm_calls": {"type": "integer"},
          "tool_calls": {"type": "integer"},
          "elapsed_ms": {"type": "integer"}
        },
        "required": ["name", "llm_calls", "tool_calls", "elapsed_ms"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "sub_agent_progress"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'sub_agent_completed', 'agent', 'a sub-agent finished its task',
  'normal', 1048576, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "sub_agent_completed", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "sub_agent_completed": {
        "type": "object",
        "properties": {
          "name": {"type": "string"},
          "result": {"type": "string"},
          "duration_ms": {"type": "integer"}
        },
        "required": ["name", "result", "duration_ms"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "sub_agent_completed"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'sub_agent_failed', 'agent', 'a sub-agent failed',
  'critical', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "sub_agent_failed", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "sub_agent_failed": {
        "type": "object",
        "properties": {
          "name": {"type": "string"},
          "error": {"type": "string"}
        },
        "required": ["name", "error"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "sub_agent_failed"],
    "additionalProperties": false
  }');

INSERT INTO pev_event_type
  (name, family, description, priority, max_bytes, durable, global, terminal_when, builtin, schema)
VALUES (
  'sub_agent_cancelled', 'agent', 'a sub-agent was terminated',
  'normal', 65536, true, false, NULL, true,
  '{
    "type": "object",
    "properties": {
      "type": {"const": "sub_agent_cancelled", "x-pev-stamp": "type"},
      "session_id": {"type": "string", "x-pev-stamp": "stream-name", "description": "session the event belongs to"},
      "message_id": {"type": "string", "x-pev-stamp": "message-id", "description": "message that triggered the event"},
      "sub_agent_cancelled": {
        "type": "object",
        "properties": {
          "name": {"type": "string"}
        },
        "required": ["name"],
        "additionalProperties": false
      }
    },
    "required": ["type", "session_id", "message_id", "sub_agent_cancelled"],
    "additionalProperties": false
  }');

/*
 * streamer_export_format.c
 *		Events as the lines of a file.
 */
#include "export_format.h"
#include "streamer_tap.h"

#define DAY INT64_C(86400000000)

static Buf out;

static const char data[] = "{\"a\": \"x, \\\"y\\\"\", \"b\": 1.50}";

/* An event with this data. */
static ExportRow
event(int64_t seq, const char *type, const char *text)
{
	return (ExportRow){.seq = seq,
					   .id = seq + 100,
					   .type = type,
					   .created = INT64_C(820454401000007),
					   .data = text,
					   .data_len = strlen(text)};
}

/* The file of so many events must be this. */
static void
is_file(ExportFormat format, int events, const char *want, const char *name)
{
	buf_clear(&out);
	export_format_begin(format, &out);
	for (int i = 1; i <= events; i++)
	{
		ExportRow row = event(i, "progress", i == 1 ? data : "\"\"");

		export_format_row(format, &row, i == 1, &out);
	}
	export_format_end(format, events == 0, &out);
	is(out.data, want, name);
}

/* A time must be written so. */
static void
is_time(int64_t created, const char *want)
{
	ExportRow row = event(1, "t", "1");
	char line[100];

	row.created = created;
	buf_clear(&out);
	export_format_row(EXPORT_CSV, &row, true, &out);
	snprintf(line, sizeof(line), "1,101,t,%s,\"1\"\r\n", want);
	is(out.data, line, want);
}

/* Numbers and types must be written so. */
static void
is_line(ExportFormat format, int64_t seq, int64_t id, const char *type, const char *want)
{
	ExportRow row = event(seq, type, "1");

	row.id = id;
	buf_clear(&out);
	export_format_row(format, &row, true, &out);
	is(out.data, want, want);
}

/* A stream's file must be called so. */
static void
is_name(ExportFormat format, const char *key, const char *want)
{
	buf_clear(&out);
	export_disposition(format, key, &out);
	is(out.data, want, key);
}

int
main(void)
{
	ExportFormat format = EXPORT_JSON;

	buf_init(&out);
	ok(export_format_parse("csv", &format) && format == EXPORT_CSV, "csv is a format");
	ok(!export_format_parse("", &format) && !export_format_parse("cs", &format), "others are not");
	is(export_media_type(EXPORT_NDJSON), "application/x-ndjson", "the media type of ndjson");
	is(export_media_type(EXPORT_JSON), "application/json", "of json");
	is(export_media_type(EXPORT_CSV), "text/csv; charset=utf-8; header=present", "of csv");

	is_file(EXPORT_NDJSON, 0, "", "no lines");
	is_file(EXPORT_JSON, 0, "[]\n", "an empty array");
	is_file(EXPORT_CSV, 0, "seq,id,type,created_at,data\r\n", "a header alone");
	is_file(EXPORT_NDJSON, 2,
			"{\"seq\":1,\"id\":101,\"type\":\"progress\",\"created_at\":\"2025-12-31T00:00:01."
			"000007Z\","
			"\"data\":{\"a\": \"x, \\\"y\\\"\", \"b\": 1.50}}\n"
			"{\"seq\":2,\"id\":102,\"type\":\"progress\",\"created_at\":\"2025-12-31T00:00:01."
			"000007Z\","
			"\"data\":\"\"}\n",
			"a line each");
	is_file(EXPORT_JSON, 2,
			"[\n{\"seq\":1,\"id\":101,\"type\":\"progress\",\"created_at\":"
			"\"2025-12-31T00:00:01.000007Z\",\"data\":{\"a\": \"x, \\\"y\\\"\", \"b\": 1.50}},\n"
			"{\"seq\":2,\"id\":102,\"type\":\"progress\",\"created_at\":\"2025-12-31T00:00:01."
			"000007Z\","
			"\"data\":\"\"}\n]\n",
			"an array");
	is_file(EXPORT_CSV, 2,
			"seq,id,type,created_at,data\r\n"
			"1,101,progress,2025-12-31T00:00:01.000007Z,\"{\"\"a\"\": \"\"x, \\\"\"y\\\"\"\"\", "
			"\"\"b\"\": 1.50}\"\r\n"
			"2,102,progress,2025-12-31T00:00:01.000007Z,\"\"\"\"\"\"\r\n",
			"quotes are doubled");

	is_time(0, "2000-01-01T00:00:00.000000Z");
	is_time(1, "2000-01-01T00:00:00.000001Z");
	is_time(-1, "1999-12-31T23:59:59.999999Z");
	is_time(59 * DAY + 123456, "2000-02-29T00:00:00.123456Z");
	is_time(INT64_C(-62135596800) * 1000000 - INT64_C(946684800) * 1000000,
			"0001-01-01T00:00:00.000000Z");
	is_time(INT64_MAX, "294277-01-09T04:00:54.775807Z");

	is_line(EXPORT_CSV, INT64_MAX, INT64_MIN, "a",
			"9223372036854775807,-9223372036854775808,a,2025-12-31T00:00:01.000007Z,\"1\"\r\n");
	is_line(EXPORT_CSV, 0, -1, "a \"b\", c",
			"0,-1,\"a \"\"b\"\", c\",2025-12-31T00:00:01.000007Z,\"1\"\r\n");
	is_line(EXPORT_NDJSON, 10, 99, "a\"\\\n",
			"{\"seq\":10,\"id\":99,\"type\":\"a\\\"\\\\\\u000a\",\"created_at\":"
			"\"2025-12-31T00:00:01.000007Z\",\"data\":1}\n");

	is_name(EXPORT_NDJSON, "42", "attachment; filename=\"events-42.ndjson\"");
	is_name(EXPORT_JSON, "user:u_1@x+~=.-", "attachment; filename=\"events-user_u_1@x+~=.-.json\"");
	is_name(EXPORT_CSV, "ü:€@=\xF0\x9F\x98\x80",
			"attachment; filename=\"events-___@=_.csv\"; "
			"filename*=UTF-8''events-%C3%BC_%E2%82%AC%40%3D%F0%9F%98%80.csv");
	buf_free(&out);
	return done();
}

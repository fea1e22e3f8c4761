/*
 * token.c
 *		Tokens and tickets, with which clients are admitted to the streamer.
 *
 * pev_token() signs a JSON Web Token (RFC 7519) with HMAC-SHA-256, for a backend
 * that has just decided, by whatever rules it has, that its user may follow a
 * stream.  The streamer verifies it with the same secret, asking nobody.
 *
 * The secret is the setting pev.jwt_secret.  Whoever knows it can make any
 * token, so it is guarded beyond what PostgreSQL does for settings of
 * superusers: it is never shown, not even to them, and it cannot be stored by
 * ALTER DATABASE, ALTER ROLE or CREATE FUNCTION, because everybody can read the
 * catalogues in which these keep settings.  Nor can it be in postgresql.conf
 * unless the library is preloaded: in a session that has not loaded it yet,
 * PostgreSQL does not know whose setting this is and shows it to everybody.
 * The name of a file can be in all these places.
 *
 * Tickets are made by the install script's SQL; what they are is explained in
 * the streamer's ticket.c.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "arg.h"
#include "array.h"
#include "stream.h"
#include "token.h"
#include "uuid7.h"

#define SECRET_MIN       32 /* bytes; the streamer refuses a shorter one, too */
#define SECRET_FILE_MAX  65536
#define SECRET_FILE_MARK "file:"
#define TOKEN_MAX        8192 /* bytes; the streamer refuses a longer one */
#define TICKET_PREFIX    "pevt_"
#define CLAIM_MAX        64 /* names in one claim; the streamer refuses more */
#define JOB_KIND_MAX     63 /* bytes */

/* Bounds of how long a token or ticket is good for, in microseconds. */
#define LIFETIME_MIN USECS_PER_SEC
#define LIFETIME_MAX (INT64CONST(30) * USECS_PER_DAY)

static char *jwt_secret; /* the setting */
static bool preloaded;   /* no session is without the library */

PG_FUNCTION_INFO_V1(pev_token);
PG_FUNCTION_INFO_V1(pev_token_id);
PG_FUNCTION_INFO_V1(pev_lifetime);
PG_FUNCTION_INFO_V1(pev_ticket_stream);
PG_FUNCTION_INFO_V1(pev_revoked_stamp);

/* ---- the secret ---- */

/* Does the setting name a file, rather than being the secret? */
static bool
names_file(const char *value)
{
	return strncmp(value, SECRET_FILE_MARK, strlen(SECRET_FILE_MARK)) == 0;
}

/* Refuse a secret that is kept where everybody can read it: see the head of the file. */
static bool
check_jwt_secret(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || **newval == '\0' || names_file(*newval))
		return true;
	if (source == PGC_S_TEST || source == PGC_S_DATABASE || source == PGC_S_USER ||
		source == PGC_S_DATABASE_USER)
	{
		GUC_check_errmsg("pev.jwt_secret must not be stored for a database, role or function");
		GUC_check_errdetail("Everybody can read such settings.");
	}
	else if (source <= PGC_S_GLOBAL && !preloaded)
	{
		GUC_check_errmsg("pev.jwt_secret must not be set for the server unless pev is preloaded");
		GUC_check_errdetail("Everybody can read it in a session that has not loaded the library.");
	}
	else
		return true;
	GUC_check_errhint("Put the secret into a file that the server can read, and set "
					  "\"file:/its/path\".");
	return false;
}

/* Show that there is a secret, not which. */
static const char *
show_jwt_secret(void)
{
	if (jwt_secret == NULL || *jwt_secret == '\0' || names_file(jwt_secret))
		return jwt_secret == NULL ? "" : jwt_secret;
	return "********";
}

/* Define the setting. */
void
token_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	DefineCustomStringVariable("pev.jwt_secret",
							   "Secret that pev_token() signs tokens with, or file:/its/path.",
							   "At least 32 bytes, the same as the streamer's --jwt-secret-file.",
							   &jwt_secret, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   check_jwt_secret, NULL, show_jwt_secret);
}

/* Read the file that holds the secret, without the end of the line. */
static char *
read_secret(const char *path, size_t *len)
{
	int fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	char *bytes = palloc(SECRET_FILE_MAX);
	ssize_t n;

	*len = 0;
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not open file \"%s\" of pev.jwt_secret: %m", path)));
	while ((n = read(fd, bytes + *len, SECRET_FILE_MAX - *len)) > 0)
		*len += n;
	if (n < 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not read file \"%s\" of pev.jwt_secret: %m", path)));
	CloseTransientFile(fd);
	if (*len == SECRET_FILE_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("file \"%s\" of pev.jwt_secret is too large for a secret", path)));
	while (*len > 0 && (bytes[*len - 1] == '\n' || bytes[*len - 1] == '\r'))
		(*len)--;
	return bytes;
}

/* The secret.  Raises 55000 if there is none, or if it is too short. */
static const char *
get_secret(size_t *len)
{
	const char *secret = jwt_secret;

	if (secret == NULL || *secret == '\0')
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("there is no secret to sign tokens with"),
						errhint("Set pev.jwt_secret to \"file:/path\" of the streamer's secret.")));
	*len = strlen(secret);
	if (names_file(secret))
		secret = read_secret(secret + strlen(SECRET_FILE_MARK), len);
	if (*len < SECRET_MIN)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the secret of pev.jwt_secret is too short"),
						errdetail("It takes at least %d bytes.", SECRET_MIN),
						errhint("Make one with: openssl rand -hex 32")));
	return secret;
}

/* ---- what is asked for ---- */

/* Refuse a lifetime out of bounds. */
static void
check_lifetime(Interval *lifetime, const char *name)
{
	TimestampTz epoch = 0;
	TimestampTz end =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(epoch),
												IntervalPGetDatum(lifetime)));

	if (end < epoch + LIFETIME_MIN || end > epoch + LIFETIME_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be between 1 second and 30 days", name)));
}

/* The canonical spelling of a key; a number loses its leading zeros. */
static char *
canonical_stream(const char *key, int len)
{
	char *canonical = stream_key_canonical(key, len);
	int64 id;

	return stream_key_is_number(canonical, &id) ? psprintf(INT64_FORMAT, id) : canonical;
}

/*
 * The canonical spelling of what a token may name: a key, "prefix:*" or "*".
 * Raises 22023 for what is none of these.
 */
static char *
canonical_pattern(const text *pattern)
{
	char *chars = text_to_cstring(pattern);
	size_t len = strlen(chars);

	if (strcmp(chars, "*") == 0)
		return chars;
	if (len < 3 || strcmp(chars + len - 2, ":*") != 0)
		return canonical_stream(chars, len);
	/* "prefix:*" is right where "prefix:x" is a key and that is its one colon */
	chars[len - 1] = 'x';
	(void) stream_key_canonical(chars, len);
	chars[len - 1] = '*';
	if (strchr(chars, ':') != chars + len - 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid stream pattern \"%s\"", chars),
						errhint("\"prefix:*\" names all streams of a kind, \"*\" all streams.")));
	return chars;
}

/* ---- base64url (RFC 4648, section 5), without padding ---- */

static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void
append_base64url(StringInfo out, const unsigned char *bytes, size_t len)
{
	uint32 bits = 0;
	int count = 0;

	for (size_t i = 0; i < len; i++)
	{
		bits = bits << 8 | bytes[i];
		for (count += 8; count >= 6; count -= 6)
			appendStringInfoChar(out, base64url_digits[bits >> (count - 6) & 63]);
	}
	if (count > 0)
		appendStringInfoChar(out, base64url_digits[bits << (6 - count) & 63]);
}

/* Decode; NULL for what is not base64url. */
static char *
decode_base64url(const char *text, size_t len, size_t *out_len)
{
	char *out = palloc(len + 1);
	uint32 bits = 0;
	int count = 0;

	*out_len = 0;
	for (size_t i = 0; i < len; i++)
	{
		const char *digit = text[i] != '\0' ? strchr(base64url_digits, text[i]) : NULL;

		if (digit == NULL)
			return NULL;
		bits = bits << 6 | (uint32) (digit - base64url_digits);
		count += 6;
		if (count >= 8)
		{
			count -= 8;
			out[(*out_len)++] = (char) (bits >> count & 0xff);
		}
	}
	out[*out_len] = '\0';
	return out;
}

/* ---- making a token ---- */

/* Append a string as JSON, in UTF-8 whatever the database's encoding. */
static void
append_json_string(StringInfo out, char *string)
{
	escape_json(out, pg_server_to_any(string, strlen(string), PG_UTF8));
}

/* Append the HMAC of the whole of the text so far. */
static void
append_signature(StringInfo token)
{
	uint8 signature[PG_SHA256_DIGEST_LENGTH];
	size_t len;
	const char *secret = get_secret(&len);
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);

	if (hmac == NULL || pg_hmac_init(hmac, (const uint8 *) secret, len) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) token->data, token->len) < 0 ||
		pg_hmac_final(hmac, signature, sizeof(signature)) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not sign a token")));
	pg_hmac_free(hmac);
	appendStringInfoChar(token, '.');
	append_base64url(token, signature, sizeof(signature));
}

/* Can it be a kind of job?  pev_job_kind has the same rule. */
static bool
is_job_kind(const char *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strlen(name);

	return len > 0 && len <= JOB_KIND_MAX && strspn(name, allowed) == len &&
		   strchr("0123456789_-", *name) == NULL;
}

/* Append the kinds of job that the bearer may queue; "*" is every kind. */
static void
append_job_kinds(StringInfo claims, ArrayType *kinds)
{
	Datum *names;
	bool *nulls;
	int count = array_elements(kinds, &names, &nulls);

	if (count > CLAIM_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("enqueue names more than %d kinds", CLAIM_MAX)));
	appendStringInfoString(claims, ",\"pev.enqueue\":[");
	for (int i = 0; i < count; i++)
	{
		char *name;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("enqueue must not hold nulls")));
		name = TextDatumGetCString(names[i]);
		if (strcmp(name, "*") != 0 && !is_job_kind(name))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("invalid job kind \"%s\"", name),
							errhint("Name kinds of pev_job_kind, or \"*\" for all of them.")));
		if (i > 0)
			appendStringInfoChar(claims, ',');
		append_json_string(claims, name);
	}
	appendStringInfoChar(claims, ']');
}

/* Append a claim that is text, unless the argument is NULL. */
static void
append_text_claim(StringInfo claims, const char *claim, FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return;
	appendStringInfo(claims, ",\"%s\":", claim);
	append_json_string(claims, text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

/* Append a claim that names one stream, or some by a pattern. */
static void
append_stream_claim(StringInfo claims, const char *claim, char *pattern)
{
	appendStringInfo(claims, ",\"%s\":[", claim);
	append_json_string(claims, pattern);
	appendStringInfoChar(claims, ']');
}

/* Begin the claims of a token with those that every one has. */
static void
begin_claims(StringInfo claims, const Interval *ttl)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												IntervalPGetDatum(ttl)));
	char id[UUID_TEXT_LEN + 1];

	uuid7_text(now, id);
	id[UUID_TEXT_LEN] = '\0';
	appendStringInfo(claims, "{\"iat\":" INT64_FORMAT ",\"exp\":" INT64_FORMAT ",\"jti\":\"%s\"",
					 (int64) timestamptz_to_time_t(now), (int64) timestamptz_to_time_t(end), id);
}

/*
 * pev_token(stream text, ttl interval, emit boolean, sub text, enqueue text[],
 * name text) returns text
 */
Datum
pev_token(PG_FUNCTION_ARGS)
{
	static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
	StringInfoData claims;
	StringInfoData token;
	char *pattern;

	require_argument(fcinfo, 0, "stream");
	require_argument(fcinfo, 1, "ttl");
	require_argument(fcinfo, 2, "emit");
	pattern = canonical_pattern(PG_GETARG_TEXT_PP(0));
	check_lifetime(PG_GETARG_INTERVAL_P(1), "ttl");
	initStringInfo(&claims);
	begin_claims(&claims, PG_GETARG_INTERVAL_P(1));
	append_text_claim(&claims, "sub", fcinfo, 3);
	append_text_claim(&claims, "name", fcinfo, 5);
	append_stream_claim(&claims, "pev.read", pattern);
	if (PG_GETARG_BOOL(2))
		append_stream_claim(&claims, "pev.emit", pattern);
	if (!PG_ARGISNULL(4))
		append_job_kinds(&claims, PG_GETARG_ARRAYTYPE_P(4));
	appendStringInfoChar(&claims, '}');
	initStringInfo(&token);
	append_base64url(&token, (const unsigned char *) header, strlen(header));
	appendStringInfoChar(&token, '.');
	append_base64url(&token, (const unsigned char *) claims.data, claims.len);
	append_signature(&token);
	if (token.len > TOKEN_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("sub or name is too long"),
						errdetail("A token takes at most %d bytes.", TOKEN_MAX)));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token.data, token.len));
}

/* ---- taking one back ---- */

/* Refuse what cannot be revoked.  The token itself is not repeated: it may be a valid one. */
static void
refuse_token(const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("token cannot be revoked"),
					errdetail("%s", why),
					errhint("Give a token that has a jti, a ticket, or a jti of 1 to 128 bytes.")));
}

/* A claim of a token, or NULL. */
static JsonbValue *
find_claim(Jsonb *claims, const char *name)
{
	JsonbValue key = {.type = jbvString};

	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	return findJsonbValueFromContainer(&claims->root, JB_FOBJECT, &key);
}

/* The id and the expiry of a token, whose signature is its bearer's business. */
static void
identify_token(const char *first, const char *second, Datum values[2], bool nulls[2])
{
	size_t len;
	char *json = decode_base64url(first + 1, second - first - 1, &len);
	Jsonb *claims;
	JsonbValue *id;
	JsonbValue *exp;

	if (json == NULL || strlen(json) != len || !pg_verify_mbstr(PG_UTF8, json, len, true))
		refuse_token("It has the dots of a token and is none.");
	json = pg_any_to_server(json, len, PG_UTF8);
	claims = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
	if (!JB_ROOT_IS_OBJECT(claims))
		refuse_token("It has the dots of a token and is none.");
	id = find_claim(claims, "jti");
	exp = find_claim(claims, "exp");
	if (id == NULL || id->type != jbvString)
		refuse_token("It has no jti, by which it could be told from others.");
	values[0] = PointerGetDatum(cstring_to_text_with_len(id->val.string.val, id->val.string.len));
	nulls[1] = exp == NULL || exp->type != jbvNumeric;
	if (!nulls[1])
		values[1] = DirectFunctionCall1(float8_timestamptz,
										DirectFunctionCall1(numeric_float8,
															NumericGetDatum(exp->val.numeric)));
}

/* The id of a ticket: its hash, in hexadecimal. */
static Datum
identify_ticket(const char *ticket)
{
	Datum hash = DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(ticket));

	return DirectFunctionCall2(binary_encode, hash, CStringGetTextDatum("hex"));
}

/*
 * pev_token_id(token text, OUT jti text, OUT expires timestamptz): what a token
 * or ticket is known by, and when it expires, if it says so.  Anything that is
 * neither is taken for a jti.
 */
Datum
pev_token_id(PG_FUNCTION_ARGS)
{
	char *token;
	char *first;
	char *second;
	TupleDesc desc;
	Datum values[2] = {0, 0};
	bool nulls[2] = {false, true};

	require_argument(fcinfo, 0, "token");
	token = text_to_cstring(PG_GETARG_TEXT_PP(0));
	first = strchr(token, '.');
	second = first != NULL ? strchr(first + 1, '.') : NULL;
	if (strncmp(token, TICKET_PREFIX, strlen(TICKET_PREFIX)) == 0)
		values[0] = identify_ticket(token);
	else if (second != NULL)
		identify_token(first, second, values, nulls);
	else
		values[0] = CStringGetTextDatum(token);
	if (VARSIZE_ANY_EXHDR(values[0]) < 1 || VARSIZE_ANY_EXHDR(values[0]) > 128)
		refuse_token("Its jti does not have 1 to 128 bytes.");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- for the functions in SQL ---- */

/* pev_lifetime(lifetime interval, name text) returns interval: the same, if within bounds. */
Datum
pev_lifetime(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(1));

	require_argument(fcinfo, 0, name);
	check_lifetime(PG_GETARG_INTERVAL_P(0), name);
	PG_RETURN_INTERVAL_P(PG_GETARG_INTERVAL_P(0));
}

/* pev_ticket_stream(stream text) returns text: its canonical spelling, if it is a key. */
Datum
pev_ticket_stream(PG_FUNCTION_ARGS)
{
	text *stream;

	require_argument(fcinfo, 0, "stream");
	stream = PG_GETARG_TEXT_PP(0);
	PG_RETURN_TEXT_P(
		cstring_to_text(canonical_stream(VARDATA_ANY(stream), VARSIZE_ANY_EXHDR(stream))));
}

/*
 * The trigger before INSERT on pev_revoked_token: whoever inserts the row, be it
 * a restore or replication, it is this transaction that brings it here.
 */
Datum
pev_revoked_stamp(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Datum value = FullTransactionIdGetDatum(GetTopFullTransactionId());
	bool null = false;
	TupleDesc desc;
	int column;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function can only be called as a trigger before INSERT")));
	desc = RelationGetDescr(trigdata->tg_relation);
	column = SPI_fnumber(desc, "xact");
	if (column <= 0)
		elog(ERROR, "pev_revoked_token has no column xact");
	PG_RETURN_POINTER(
		heap_modify_tuple_by_cols(trigdata->tg_trigtuple, desc, 1, &column, &value, &null));
}

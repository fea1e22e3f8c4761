/*
 * stamp.c
 *		What pev fills into an event on its way in.
 *
 * A type's schema says with "x-pev-stamp" which value a top-level property
 * gets when the caller left it out, and with "x-pev-round" to how many
 * decimals a number is rounded.  A value the caller gave is never replaced by
 * a stamp.  Registered types are stamped by the same keywords as built-in ones.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "jsonb_merge.h"
#include "jsonb_walk.h"
#include "stamp.h"
#include "uuid7.h"

#define STAMP_KEYWORD   "x-pev-stamp"
#define ROUND_KEYWORD   "x-pev-round"
#define ROUND_MAX       9
#define STAMP_MAX_RULES 64
#define STAMP_TEXT_LEN  64 /* no stamped text that is made here is longer */

/* The setting pev.message_id. */
char *pev_message_id = NULL;

/* The values of "x-pev-stamp". */
static const struct
{
	const char *name;
	StampSource source;
} sources[] = {
	{"timestamp", STAMP_TIMESTAMP},   {"unix-time", STAMP_UNIX_TIME},
	{"uuid-v7", STAMP_UUID7},         {"type", STAMP_TYPE},
	{"stream-id", STAMP_STREAM_ID},   {"stream-name", STAMP_STREAM_NAME},
	{"message-id", STAMP_MESSAGE_ID},
};

/* Refuse what a property's private keyword says. */
static void
refuse_keyword(const StampRule *rule, const char *keyword, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid JSON Schema"),
			 errdetail("/properties/%.*s: \"%s\" %s.", rule->keylen, rule->key, keyword, why)));
}

/* Read the private keywords of one property; false if it has none. */
static bool
compile_rule(StampRule *rule, const JsonbValue *property)
{
	JsonbValue value;

	rule->source = STAMP_NONE;
	rule->round = -1;
	if (!jsonb_value_is_object(property))
		return false;
	if (jsonb_object_get(property->val.binary.data, STAMP_KEYWORD, &value))
	{
		for (int i = 0; i < (int) lengthof(sources); i++)
			if (value.type == jbvString &&
				strlen(sources[i].name) == (size_t) value.val.string.len &&
				memcmp(sources[i].name, value.val.string.val, value.val.string.len) == 0)
				rule->source = sources[i].source;
		if (rule->source == STAMP_NONE)
			refuse_keyword(rule, STAMP_KEYWORD, "names no value that pev can supply");
	}
	if (jsonb_object_get(property->val.binary.data, ROUND_KEYWORD, &value))
	{
		/* one of ten numbers: compare instead of converting what may be any */
		for (int i = 0; i <= ROUND_MAX && value.type == jbvNumeric; i++)
			if (DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(value.val.numeric),
												 NumericGetDatum(int64_to_numeric(i)))))
				rule->round = i;
		if (rule->round < 0)
			refuse_keyword(rule, ROUND_KEYWORD, "must be a number of decimals from 0 to 9");
	}
	return rule->source != STAMP_NONE || rule->round >= 0;
}

/*
 * Read a schema's rules, in the order of jsonb keys, which is that of the
 * schema's own "properties".  Allocates in the current context; the plan
 * points into the schema.  Raises 22023 for a keyword that makes no sense.
 */
StampPlan *
stamp_compile(const Jsonb *schema)
{
	StampPlan *plan = palloc0(sizeof(StampPlan));
	JsonbValue properties;
	JsonbWalk keys;
	JsonbWalk values;
	int npairs;

	if (!JB_ROOT_IS_OBJECT(schema) || !jsonb_object_get(&schema->root, "properties", &properties) ||
		!jsonb_value_is_object(&properties))
		return plan;
	npairs = JsonContainerSize(properties.val.binary.data);
	plan->rules = palloc(sizeof(StampRule) * Max(npairs, 1));
	keys = jsonb_walk_from(properties.val.binary.data, 0);
	values = jsonb_walk_from(properties.val.binary.data, npairs);
	for (int i = 0; i < npairs; i++)
	{
		StampRule *rule = &plan->rules[plan->count];
		JsonbValue key;
		JsonbValue property;

		jsonb_walk_next_key(&keys, &key);
		jsonb_walk_next(&values, &property);
		rule->key = key.val.string.val;
		rule->keylen = key.val.string.len;
		if (!compile_rule(rule, &property))
			continue;
		if (++plan->count > STAMP_MAX_RULES)
			refuse_keyword(rule, STAMP_KEYWORD, "stands on more than 64 properties");
		if (rule->source == STAMP_STREAM_NAME)
			plan->needs_stream_name = true;
	}
	return plan;
}

/* A text value. */
static void
set_text(JsonbValue *value, const char *text, int len)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, text);
	value->val.string.len = len;
}

/* A numeric value from a whole number and a count of decimals it is shifted by. */
static void
set_number(JsonbValue *value, int64 number)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
}

/* Write a number with so many digits; what follows them. */
static char *
put_digits(char *out, int number, int digits)
{
	for (int i = digits; i-- > 0; number /= 10)
		out[i] = '0' + number % 10;
	return out + digits;
}

/* Now as ISO 8601: 2025-06-27T08:00:01.000Z */
static void
set_timestamp(JsonbValue *value, TimestampTz now)
{
	char *text = palloc(STAMP_TEXT_LEN);
	char *end = text;
	struct pg_tm tm;
	fsec_t fsec;

	if (timestamp2tm(now, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "current time is out of range");
	end = put_digits(end, tm.tm_year, 4);
	*end++ = '-';
	end = put_digits(end, tm.tm_mon, 2);
	*end++ = '-';
	end = put_digits(end, tm.tm_mday, 2);
	*end++ = 'T';
	end = put_digits(end, tm.tm_hour, 2);
	*end++ = ':';
	end = put_digits(end, tm.tm_min, 2);
	*end++ = ':';
	end = put_digits(end, tm.tm_sec, 2);
	*end++ = '.';
	end = put_digits(end, (int) (fsec / 1000), 3);
	*end++ = 'Z';
	set_text(value, text, end - text);
}

/* Now as seconds since 1970 with three decimals. */
static void
set_unix_time(JsonbValue *value, TimestampTz now)
{
	int64 millis = (now + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;

	value->type = jbvNumeric;
	value->val.numeric = int64_div_fast_to_numeric(millis, 3);
}

/* The time of all stamps of an event; most events come with their own, so it is read late. */
static TimestampTz
stamp_now(StampInput *input)
{
	if (input->now == 0)
		input->now = GetCurrentTimestamp();
	return input->now;
}

/* Supply the value of a source; false if it has none now. */
static bool
supply(StampSource source, StampInput *input, JsonbValue *value)
{
	char *text;

	switch (source)
	{
		case STAMP_NONE:
			return false;
		case STAMP_TIMESTAMP:
			set_timestamp(value, stamp_now(input));
			return true;
		case STAMP_UNIX_TIME:
			set_unix_time(value, stamp_now(input));
			return true;
		case STAMP_UUID7:
			text = palloc(UUID_TEXT_LEN);
			uuid7_text(stamp_now(input), text);
			set_text(value, text, UUID_TEXT_LEN);
			return true;
		case STAMP_TYPE:
			set_text(value, input->type, strlen(input->type));
			return true;
		case STAMP_STREAM_ID:
			set_number(value, input->stream);
			return true;
		case STAMP_STREAM_NAME:
			set_text(value, input->stream_name, strlen(input->stream_name));
			return true;
		case STAMP_MESSAGE_ID:
			if (pev_message_id == NULL || pev_message_id[0] == '\0')
				return false;
			set_text(value, pev_message_id, strlen(pev_message_id));
			return true;
	}
	return false;
}

/* Round pair `index` if it has more decimals than the rule allows; false if nothing changes. */
static bool
round_number(const StampRule *rule, const Jsonb *event, int index, JsonbValue *value)
{
	JsonbWalk at = jsonb_walk_from(&event->root, JsonContainerSize(&event->root) + index);
	JsonbValue given;
	Datum number;

	jsonb_walk_next(&at, &given);
	if (given.type != jbvNumeric)
		return false;
	number = NumericGetDatum(given.val.numeric);
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, number)) <= rule->round)
		return false;
	value->type = jbvNumeric;
	value->val.numeric =
		DatumGetNumeric(DirectFunctionCall2(numeric_round, number, Int32GetDatum(rule->round)));
	return true;
}

/*
 * The event with everything its type wants filled in; the same pointer if
 * nothing is missing.  The caller has made sure that it is an object.
 */
Jsonb *
stamp_apply(const StampPlan *plan, Jsonb *event, StampInput *input)
{
	int npairs = JsonContainerSize(&event->root);
	JsonbWalk keys = jsonb_walk_from(&event->root, 0);
	JsonbMember members[STAMP_MAX_RULES];
	int nmembers = 0;

	for (int i = 0; i < plan->count; i++)
	{
		const StampRule *rule = &plan->rules[i];
		JsonbMember *member = &members[nmembers];
		int cmp = -1;
		bool set;

		/* both are sorted: step over the keys that come before the rule's */
		while (keys.index < npairs && cmp < 0)
		{
			JsonbWalk ahead = keys;
			JsonbValue key;

			jsonb_walk_next_key(&ahead, &key);
			cmp = jsonb_key_cmp(key.val.string.val, key.val.string.len, rule->key, rule->keylen);
			if (cmp < 0)
				keys = ahead;
		}
		if (cmp == 0)
			set = rule->round >= 0 && round_number(rule, event, keys.index, &member->value);
		else
			set = supply(rule->source, input, &member->value);
		if (set)
		{
			member->key = rule->key;
			member->keylen = rule->keylen;
			nmembers++;
		}
	}
	return nmembers == 0 ? event : jsonb_merge(event, members, nmembers);
}

/*
 * schema_program.c
 *		Running a compiled schema over a jsonb value.
 *
 * The valid case is the fast one: it reads the datum in place and allocates
 * nothing.  With a report the run goes on past a fault and notes each; only
 * then are paths and messages built.  A path is a chain of frames on the
 * stack, turned into a JSON Pointer when a fault needs it.
 *
 * Messages never quote the instance: they end up in logs, events may be
 * confidential.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "jsonb_walk.h"
#include "schema_program.h"

#define PATTERN_STACK_CHARS 256 /* strings up to this length are matched without allocating */

/* One step of the path from the root to the value at hand. */
typedef struct SchemaPath
{
	const struct SchemaPath *parent;
	const char *name; /* NULL: an array index */
	int len;          /* of the name, or the index */
} SchemaPath;

static bool run_node(const SchemaProgram *program, int node, const JsonbValue *value,
					 const SchemaPath *path, SchemaReport *report);

/* The names of the types, in the order of their bits. */
static const char *const type_names[] = {"null",   "boolean", "string", "integer",
										 "number", "array",   "object"};

/* The name of one SCHEMA_T_* bit. */
const char *
schema_type_name(int type)
{
	return type_names[pg_rightmost_one_pos32(type)];
}

/* Extend a JSON Pointer by a member's name, "~" and "/" escaped as RFC 6901 says. */
void
schema_pointer_append(StringInfo pointer, const char *name, int len)
{
	appendStringInfoChar(pointer, '/');
	for (int i = 0; i < len; i++)
	{
		if (name[i] == '~')
			appendStringInfoString(pointer, "~0");
		else if (name[i] == '/')
			appendStringInfoString(pointer, "~1");
		else
			appendStringInfoChar(pointer, name[i]);
	}
}

/* Append the JSON Pointer of a path. */
static void
append_path(StringInfo out, const SchemaPath *path)
{
	if (path == NULL)
		return;
	append_path(out, path->parent);
	if (path->name == NULL)
		appendStringInfo(out, "/%d", path->len);
	else
		schema_pointer_append(out, path->name, path->len);
}

/* Keep a fault, if there is room for it. */
void
schema_report_add(SchemaReport *report, char *path, const char *keyword, char *message)
{
	SchemaFault *fault;

	report->total++;
	if (report->count >= report->limit)
		return;
	if (report->faults == NULL)
		report->faults = palloc(sizeof(SchemaFault) * 8);
	else if (report->count >= 8 && (report->count & (report->count - 1)) == 0)
		report->faults = repalloc(report->faults, sizeof(SchemaFault) * report->count * 2);
	fault = &report->faults[report->count++];
	fault->path = path;
	fault->keyword = keyword;
	fault->message = message;
}

/* All kept faults on one line, as an error detail shows them. */
char *
schema_report_text(const SchemaReport *report)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < report->count; i++)
		appendStringInfo(&out, "%s%s: %s", i == 0 ? "" : "; ",
						 report->faults[i].path[0] ? report->faults[i].path : "(root)",
						 report->faults[i].message);
	if (report->total > report->count)
		appendStringInfo(&out, "; and %d more", report->total - report->count);
	return out.data;
}

/* Note a fault at a path; without a report only say that there is one. */
static bool fault(SchemaReport *report, const SchemaPath *path, const char *keyword,
				  const char *format, ...) pg_attribute_printf(4, 5);

static bool
fault(SchemaReport *report, const SchemaPath *path, const char *keyword, const char *format, ...)
{
	StringInfoData pointer;
	StringInfoData message;
	va_list args;
	int needed;

	if (report == NULL)
		return false;
	initStringInfo(&pointer);
	append_path(&pointer, path);
	initStringInfo(&message);
	for (;;)
	{
		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	schema_report_add(report, pointer.data, keyword, message.data);
	return false;
}

/* Is this number without a fraction?  1.0 is, as JSON Schema has it. */
static bool
is_integral(Numeric number)
{
	Datum datum = NumericGetDatum(number);

	return DatumGetInt32(DirectFunctionCall1(numeric_scale, datum)) == 0 ||
		   DatumGetInt32(DirectFunctionCall1(numeric_min_scale, datum)) == 0;
}

/* The SCHEMA_T_* bits that fit a value. */
static inline int
value_types(const JsonbValue *value, bool tell_integers)
{
	switch (value->type)
	{
		case jbvNull:
			return SCHEMA_T_NULL;
		case jbvBool:
			return SCHEMA_T_BOOLEAN;
		case jbvString:
			return SCHEMA_T_STRING;
		case jbvNumeric:
			if (tell_integers && is_integral(value->val.numeric))
				return SCHEMA_T_NUMBER | SCHEMA_T_INTEGER;
			return SCHEMA_T_NUMBER;
		case jbvBinary:
			return JsonContainerIsObject(value->val.binary.data) ? SCHEMA_T_OBJECT : SCHEMA_T_ARRAY;
		default:
			elog(ERROR, "unexpected jsonb value type %d", (int) value->type);
	}
	return 0;
}

/* A list of type names: "string or null". */
static char *
type_list(int mask)
{
	StringInfoData out;

	initStringInfo(&out);
	while (mask != 0)
	{
		int bit = mask & -mask;

		mask &= ~bit;
		appendStringInfo(&out, "%s%s", out.len == 0 ? "" : (mask == 0 ? " or " : ", "),
						 schema_type_name(bit));
	}
	return out.data;
}

/* Is the value of a type that the instruction allows? */
static inline bool
type_holds(const SchemaInstr *instr, const JsonbValue *value)
{
	/* whether a number is an integer matters only where "number" is not allowed anyway */
	bool tell_integers = (instr->a & (SCHEMA_T_INTEGER | SCHEMA_T_NUMBER)) == SCHEMA_T_INTEGER;

	return (value_types(value, tell_integers) & instr->a) != 0;
}

/* type, which does not hold */
static bool
refuse_type(const SchemaInstr *instr, const JsonbValue *value, const SchemaPath *path,
			SchemaReport *report)
{
	return fault(report, path, "type", "must be of type %s, not %s", type_list(instr->a),
				 schema_type_name(value_types(value, false)));
}

/* Are two JSON values equal?  1 and 1.0 are. */
static bool
values_equal(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				   memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;
		case jbvNumeric:
			return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(a->val.numeric),
													NumericGetDatum(b->val.numeric)));
		default:
			return compareJsonbContainers(a->val.binary.data, b->val.binary.data) == 0;
	}
}

/* A constant of the schema as JSON text. */
static char *
value_text(const JsonbValue *value)
{
	Jsonb *jb = JsonbValueToJsonb(unconstify(JsonbValue *, value));

	return JsonbToCString(NULL, &jb->root, VARSIZE(jb));
}

/* const and enum: one of `count` values */
static bool
run_enum(const JsonbValue *values, int count, const char *keyword, const JsonbValue *value,
		 const SchemaPath *path, SchemaReport *report)
{
	StringInfoData list;

	for (int i = 0; i < count; i++)
		if (values_equal(&values[i], value))
			return true;
	if (report == NULL)
		return false;
	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", value_text(&values[i]));
	return fault(report, path, keyword, count == 1 ? "must be %s" : "must be one of %s", list.data);
}

/* The bounds of numbers: each keyword, what it says and whether cmp() satisfies it. */
static bool
run_bound(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
		  const SchemaPath *path, SchemaReport *report)
{
	const JsonbValue *bound = &program->values[instr->a];
	int cmp;

	if (value->type != jbvNumeric)
		return true;
	cmp = DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(value->val.numeric),
											NumericGetDatum(bound->val.numeric)));
	switch (instr->op)
	{
		case SCHEMA_MINIMUM:
			return cmp >= 0 || fault(report, path, "minimum", "must be >= %s", value_text(bound));
		case SCHEMA_MAXIMUM:
			return cmp <= 0 || fault(report, path, "maximum", "must be <= %s", value_text(bound));
		case SCHEMA_EXCLUSIVE_MINIMUM:
			return cmp > 0 ||
				   fault(report, path, "exclusiveMinimum", "must be > %s", value_text(bound));
		default:
			return cmp < 0 ||
				   fault(report, path, "exclusiveMaximum", "must be < %s", value_text(bound));
	}
}

/* multipleOf */
static bool
run_multiple_of(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
				const SchemaPath *path, SchemaReport *report)
{
	const JsonbValue *divisor = &program->values[instr->a];
	Datum remainder;

	if (value->type != jbvNumeric)
		return true;
	remainder = DirectFunctionCall2(numeric_mod, NumericGetDatum(value->val.numeric),
									NumericGetDatum(divisor->val.numeric));
	/* only zero is its own negative */
	if (DatumGetBool(DirectFunctionCall2(numeric_eq, remainder,
										 DirectFunctionCall1(numeric_uminus, remainder))))
		return true;
	return fault(report, path, "multipleOf", "must be a multiple of %s", value_text(divisor));
}

/* minLength and maxLength count characters, not bytes */
static bool
run_length(const SchemaInstr *instr, const JsonbValue *value, const SchemaPath *path,
		   SchemaReport *report)
{
	int chars;

	if (value->type != jbvString)
		return true;
	if (instr->op == SCHEMA_MAX_LENGTH && value->val.string.len <= instr->a)
		return true; /* a character takes a byte at least */
	chars = pg_mbstrlen_with_len(value->val.string.val, value->val.string.len);
	if (instr->op == SCHEMA_MIN_LENGTH)
		return chars >= instr->a ||
			   fault(report, path, "minLength", "must be at least %d character%s long", instr->a,
					 instr->a == 1 ? "" : "s");
	return chars <= instr->a ||
		   fault(report, path, "maxLength", "must be at most %d character%s long", instr->a,
				 instr->a == 1 ? "" : "s");
}

/* Does the text match the pattern anywhere?  PostgreSQL caches the compiled pattern. */
static bool
pattern_matches(const JsonbValue *pattern, const JsonbValue *value)
{
	pg_wchar stack[PATTERN_STACK_CHARS + 1];
	pg_wchar *chars = stack;
	text *source = cstring_to_text_with_len(pattern->val.string.val, pattern->val.string.len);
	regex_t *regex = RE_compile_and_cache(source, REG_ADVANCED, C_COLLATION_OID);
	int nchars;
	int result;

	if (value->val.string.len > PATTERN_STACK_CHARS)
		chars = palloc(sizeof(pg_wchar) * (value->val.string.len + 1));
	nchars = pg_mb2wchar_with_len(value->val.string.val, chars, value->val.string.len);
	result = pg_regexec(regex, chars, nchars, 0, NULL, 0, NULL, 0);
	if (chars != stack)
		pfree(chars);
	pfree(source);
	return result == REG_OKAY;
}

/* pattern */
static bool
run_pattern(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
			const SchemaPath *path, SchemaReport *report)
{
	const JsonbValue *pattern = &program->values[instr->a];

	if (value->type != jbvString || pattern_matches(pattern, value))
		return true;
	return fault(report, path, "pattern", "must match the pattern %s", value_text(pattern));
}

/* format */
static bool
run_format(const SchemaInstr *instr, const JsonbValue *value, const SchemaPath *path,
		   SchemaReport *report)
{
	SchemaFormat format = (SchemaFormat) instr->a;

	if (value->type != jbvString ||
		schema_format_holds(format, value->val.string.val, value->val.string.len))
		return true;
	return fault(report, path, "format", "must be a %s", schema_format_name(format));
}

/* minItems and maxItems, minProperties and maxProperties */
static bool
run_size(const SchemaInstr *instr, const JsonbValue *value, const SchemaPath *path,
		 SchemaReport *report)
{
	bool of_array = instr->op == SCHEMA_MIN_ITEMS || instr->op == SCHEMA_MAX_ITEMS;
	bool minimum = instr->op == SCHEMA_MIN_ITEMS || instr->op == SCHEMA_MIN_PROPERTIES;
	int size;
	const char *keyword;

	if (value->type != jbvBinary || JsonContainerIsArray(value->val.binary.data) != of_array)
		return true;
	size = JsonContainerSize(value->val.binary.data);
	if (minimum ? size >= instr->a : size <= instr->a)
		return true;
	if (of_array)
		keyword = minimum ? "minItems" : "maxItems";
	else
		keyword = minimum ? "minProperties" : "maxProperties";
	return fault(report, path, keyword, "must have at %s %d %s", minimum ? "least" : "most",
				 instr->a, of_array ? "items" : "properties");
}

/* items */
static bool
run_items(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
		  const SchemaPath *path, SchemaReport *report)
{
	JsonbWalk walk;
	int nitems;
	bool holds = true;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return true;
	walk = jsonb_walk_from(value->val.binary.data, 0);
	nitems = JsonContainerSize(value->val.binary.data);
	while (walk.index < nitems)
	{
		SchemaPath step = {path, NULL, walk.index};
		JsonbValue item;

		CHECK_FOR_INTERRUPTS();
		jsonb_walk_next(&walk, &item);
		if (!run_node(program, instr->a, &item, &step, report))
		{
			holds = false;
			if (report == NULL)
				break;
		}
	}
	return holds;
}

/* Check one property that is there against what the schema says of it. */
static bool
run_property(const SchemaProgram *program, const SchemaProperty *known, int others,
			 const JsonbValue *key, const JsonbValue *value, const SchemaPath *path,
			 SchemaReport *report)
{
	SchemaPath step = {path, key->val.string.val, key->val.string.len};
	int node = known != NULL && known->node != SCHEMA_NO_NODE ? known->node : others;

	if (node == SCHEMA_NO_NODE)
		return true;
	if (node == SCHEMA_DENY)
		return fault(report, &step, "additionalProperties", "unknown property");
	return run_node(program, node, value, &step, report);
}

/*
 * properties, required and additionalProperties, all in one pass: the keys of
 * the object and the properties of the schema are sorted alike and merged.
 */
static bool
run_object(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
		   const SchemaPath *path, SchemaReport *report)
{
	const SchemaProperty *known = &program->properties[instr->a];
	const SchemaProperty *end = known + instr->b;
	JsonbWalk keys;
	JsonbWalk values;
	int npairs;
	bool holds = true;

	if (!jsonb_value_is_object(value))
		return true;
	npairs = JsonContainerSize(value->val.binary.data);
	keys = jsonb_walk_from(value->val.binary.data, 0);
	values = jsonb_walk_from(value->val.binary.data, npairs);
	while ((holds || report != NULL) && (keys.index < npairs || known < end))
	{
		JsonbValue key;
		JsonbValue child;
		JsonbWalk ahead = keys;
		int cmp = 1; /* the object is at its end: the schema's property is missing */

		if (keys.index < npairs)
		{
			jsonb_walk_next_key(&ahead, &key);
			cmp = known == end ? -1
							   : jsonb_key_cmp(key.val.string.val, key.val.string.len, known->name,
											   known->len);
		}
		if (cmp > 0)
		{
			SchemaPath step = {path, known->name, known->len};

			if (known->required)
				holds = fault(report, &step, "required", "required property is missing");
			known++;
			continue;
		}
		keys = ahead;
		jsonb_walk_next(&values, &child);
		if (!run_property(program, cmp == 0 ? known : NULL, instr->c, &key, &child, path, report))
			holds = false;
		if (cmp == 0)
			known++;
	}
	return holds;
}

/* anyOf and oneOf: how many alternatives hold */
static bool
run_alternatives(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
				 const SchemaPath *path, SchemaReport *report)
{
	int matches = 0;

	for (int i = 0; i < instr->b; i++)
		if (run_node(program, program->lists[instr->a + i], value, path, NULL))
		{
			matches++;
			if (instr->op == SCHEMA_ANY_OF || matches > 1)
				break;
		}
	if (matches == 1)
		return true;
	if (matches > 1)
		return fault(report, path, "oneOf",
					 "must match exactly one of %d alternatives, but matches more", instr->b);
	return fault(report, path, instr->op == SCHEMA_ANY_OF ? "anyOf" : "oneOf",
				 "must match %s of %d alternatives",
				 instr->op == SCHEMA_ANY_OF ? "at least one" : "exactly one", instr->b);
}

/* allOf */
static bool
run_all_of(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
		   const SchemaPath *path, SchemaReport *report)
{
	bool holds = true;

	for (int i = 0; i < instr->b && (holds || report != NULL); i++)
		if (!run_node(program, program->lists[instr->a + i], value, path, report))
			holds = false;
	return holds;
}

/* if, then, else */
static bool
run_if(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
	   const SchemaPath *path, SchemaReport *report)
{
	int node = run_node(program, instr->a, value, path, NULL) ? instr->b : instr->c;

	return node == SCHEMA_NO_NODE || run_node(program, node, value, path, report);
}

/* Does an instruction hold that applies other nodes? */
static bool
run_applicator(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
			   const SchemaPath *path, SchemaReport *report)
{
	check_stack_depth();
	/* a small schema can ask for much: $refs multiply */
	CHECK_FOR_INTERRUPTS();
	switch (instr->op)
	{
		case SCHEMA_ITEMS:
			return run_items(program, instr, value, path, report);
		case SCHEMA_OBJECT:
			return run_object(program, instr, value, path, report);
		case SCHEMA_ALL_OF:
			return run_all_of(program, instr, value, path, report);
		case SCHEMA_ANY_OF:
		case SCHEMA_ONE_OF:
			return run_alternatives(program, instr, value, path, report);
		case SCHEMA_NOT:
			return !run_node(program, instr->a, value, path, NULL) ||
				   fault(report, path, "not", "must not match the schema of \"not\"");
		case SCHEMA_IF:
			return run_if(program, instr, value, path, report);
		case SCHEMA_REF:
			return run_node(program, instr->a, value, path, report);
		default:
			elog(ERROR, "unknown schema instruction %d", (int) instr->op);
	}
	return false;
}

/* Does one instruction hold? */
static bool
run_instr(const SchemaProgram *program, const SchemaInstr *instr, const JsonbValue *value,
		  const SchemaPath *path, SchemaReport *report)
{
	switch (instr->op)
	{
		case SCHEMA_END:
			return true;
		case SCHEMA_FALSE:
			return fault(report, path, "false", "is not allowed");
		case SCHEMA_TYPE:
			return refuse_type(instr, value, path, report);
		case SCHEMA_CONST:
			return run_enum(&program->values[instr->a], 1, "const", value, path, report);
		case SCHEMA_ENUM:
			return run_enum(&program->values[instr->a], instr->b, "enum", value, path, report);
		case SCHEMA_MINIMUM:
		case SCHEMA_MAXIMUM:
		case SCHEMA_EXCLUSIVE_MINIMUM:
		case SCHEMA_EXCLUSIVE_MAXIMUM:
			return run_bound(program, instr, value, path, report);
		case SCHEMA_MULTIPLE_OF:
			return run_multiple_of(program, instr, value, path, report);
		case SCHEMA_MIN_LENGTH:
		case SCHEMA_MAX_LENGTH:
			return run_length(instr, value, path, report);
		case SCHEMA_PATTERN:
			return run_pattern(program, instr, value, path, report);
		case SCHEMA_FORMAT:
			return run_format(instr, value, path, report);
		case SCHEMA_MIN_ITEMS:
		case SCHEMA_MAX_ITEMS:
		case SCHEMA_MIN_PROPERTIES:
		case SCHEMA_MAX_PROPERTIES:
			return run_size(instr, value, path, report);
		default:
			return run_applicator(program, instr, value, path, report);
	}
}

/* Does every instruction of a node hold?  Without a report the first fault ends the run. */
static bool
run_node(const SchemaProgram *program, int node, const JsonbValue *value, const SchemaPath *path,
		 SchemaReport *report)
{
	bool holds = true;

	for (const SchemaInstr *instr = &program->instrs[program->nodes[node]]; instr->op != SCHEMA_END;
		 instr++)
	{
		/* the most frequent one, and the only one of most properties */
		if (instr->op == SCHEMA_TYPE && type_holds(instr, value))
			continue;
		if (!run_instr(program, instr, value, path, report))
		{
			if (report == NULL)
				return false;
			holds = false;
		}
	}
	return holds;
}

/* Does the value conform to the schema? */
bool
schema_is_valid(const SchemaProgram *program, const JsonbValue *value)
{
	return run_node(program, program->root, value, NULL, NULL);
}

/* Add every fault of the value to the report. */
void
schema_validate(const SchemaProgram *program, const JsonbValue *value, SchemaReport *report)
{
	run_node(program, program->root, value, NULL, report);
}

/*
 * schema_compile.c
 *		Compiling a JSON Schema into a SchemaProgram.
 *
 * The vocabulary is that of draft-07 and 2020-12 as far as the table below
 * goes; a keyword that is not in it is an error that names it, because a
 * constraint that is silently dropped is worse than none.  Annotations and
 * keywords that begin with "x-" constrain nothing.
 *
 * A node's children are compiled before the node's own instructions are
 * written, so that these lie together.  A node gets its number first: a $ref
 * may name a node that is still being compiled.  Subschemas are known by the
 * address of their container in the schema's copy.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "jsonb_walk.h"
#include "schema_program.h"

#define SCHEMA_MAX_PARTS 10000 /* instructions, nodes, properties or constants of one schema */

/* A schema container and the node it became. */
typedef struct CompiledNode
{
	const void *where; /* the subschema's place in the copy */
	int node;
} CompiledNode;

/* A growing array of fixed-size elements, the base of every pool below. */
typedef struct Pool
{
	char *data;
	size_t size; /* of an element */
	int count;
	int allocated;
} Pool;

typedef struct Compiler
{
	const Jsonb *schema; /* the copy that the program keeps */
	Pool instrs;
	Pool nodes;
	Pool properties;
	Pool lists;
	Pool values;
	List *compiled; /* of CompiledNode */
} Compiler;

/* The subschema being compiled. */
typedef struct Subschema
{
	const JsonbContainer *object;
	const char *pointer; /* its JSON Pointer, for errors */
	List *instrs;        /* of SchemaInstr, its own */
	bool object_done;    /* one SCHEMA_OBJECT serves three keywords */
	bool if_done;
} Subschema;

typedef void (*KeywordCompiler)(Compiler *compiler, Subschema *sub, const char *keyword,
								const JsonbValue *value);

static int compile_node(Compiler *compiler, const JsonbValue *schema, const char *pointer);

/* Refuse the schema, saying where and why. */
static void refuse(const char *pointer, const char *format, ...) pg_attribute_printf(2, 3);

static void
refuse(const char *pointer, const char *format, ...)
{
	char reason[512];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid JSON Schema"),
					errdetail("%s: %s.", pointer[0] ? pointer : "(root)", reason)));
}

/* Append count elements to a pool; the index of the first. */
static int
pool_add(Pool *pool, const void *elements, int count)
{
	int first = pool->count;

	if (count > SCHEMA_MAX_PARTS - pool->count)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("JSON Schema is too large"),
						errdetail("It has more than %d parts.", SCHEMA_MAX_PARTS)));
	if (pool->count + count > pool->allocated)
	{
		pool->allocated = Max(16, (pool->count + count) * 2);
		pool->data = pool->data == NULL ? palloc(pool->allocated * pool->size)
										: repalloc(pool->data, pool->allocated * pool->size);
	}
	if (count > 0)
		memcpy(pool->data + first * pool->size, elements, count * pool->size);
	pool->count += count;
	return first;
}

/* Extend a JSON Pointer by a name. */
static const char *
pointer_down(const char *pointer, const char *name, int len)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, pointer);
	schema_pointer_append(&out, name, len);
	return out.data;
}

/* Add an instruction to the subschema at hand. */
static void
emit(Subschema *sub, SchemaOp op, int a, int b, int c)
{
	SchemaInstr *instr = palloc(sizeof(SchemaInstr));

	instr->op = op;
	instr->a = a;
	instr->b = b;
	instr->c = c;
	sub->instrs = lappend(sub->instrs, instr);
}

/* Is this a JSON array?  If so its walk begins at the first element. */
static bool
as_array(const JsonbValue *value, JsonbWalk *walk, int *count)
{
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return false;
	*walk = jsonb_walk_from(value->val.binary.data, 0);
	*count = JsonContainerSize(value->val.binary.data);
	return true;
}

/* The bit of a type name. */
static int
type_bit(const Subschema *sub, const JsonbValue *name)
{
	if (name->type == jbvString)
		for (int bit = SCHEMA_T_NULL; bit <= SCHEMA_T_OBJECT; bit <<= 1)
			if (strlen(schema_type_name(bit)) == (size_t) name->val.string.len &&
				memcmp(schema_type_name(bit), name->val.string.val, name->val.string.len) == 0)
				return bit;
	refuse(sub->pointer, "\"type\" must be one of the seven type names or an array of them");
	return 0;
}

/* type */
static void
compile_type(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	JsonbWalk walk;
	int count;
	int mask = 0;

	if (!as_array(value, &walk, &count))
		mask = type_bit(sub, value);
	else if (count == 0)
		refuse(sub->pointer, "\"type\" must name at least one type");
	else
		while (walk.index < count)
		{
			JsonbValue name;

			jsonb_walk_next(&walk, &name);
			mask |= type_bit(sub, &name);
		}
	emit(sub, SCHEMA_TYPE, mask, 0, 0);
}

/* const */
static void
compile_const(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	emit(sub, SCHEMA_CONST, pool_add(&compiler->values, value, 1), 0, 0);
}

/* enum */
static void
compile_enum(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	int first = compiler->values.count;
	JsonbWalk walk;
	int count;

	if (!as_array(value, &walk, &count) || count == 0)
		refuse(sub->pointer, "\"enum\" must be an array of at least one value");
	while (walk.index < count)
	{
		JsonbValue choice;

		jsonb_walk_next(&walk, &choice);
		pool_add(&compiler->values, &choice, 1);
	}
	emit(sub, SCHEMA_ENUM, first, count, 0);
}

/* minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf */
static void
compile_number(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	static const struct
	{
		const char *keyword;
		SchemaOp op;
	} ops[] = {{"minimum", SCHEMA_MINIMUM},
			   {"maximum", SCHEMA_MAXIMUM},
			   {"exclusiveMinimum", SCHEMA_EXCLUSIVE_MINIMUM},
			   {"exclusiveMaximum", SCHEMA_EXCLUSIVE_MAXIMUM},
			   {"multipleOf", SCHEMA_MULTIPLE_OF}};
	int i = 0;

	if (value->type != jbvNumeric)
		refuse(sub->pointer, "\"%s\" must be a number", keyword);
	while (strcmp(ops[i].keyword, keyword) != 0)
		i++;
	if (ops[i].op == SCHEMA_MULTIPLE_OF &&
		!DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(value->val.numeric),
										  DirectFunctionCall1(int4_numeric, Int32GetDatum(0)))))
		refuse(sub->pointer, "\"multipleOf\" must be greater than 0");
	emit(sub, ops[i].op, pool_add(&compiler->values, value, 1), 0, 0);
}

/* minLength, maxLength, minItems, maxItems, minProperties, maxProperties */
static void
compile_count(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	static const struct
	{
		const char *keyword;
		SchemaOp op;
	} ops[] = {{"minLength", SCHEMA_MIN_LENGTH},         {"maxLength", SCHEMA_MAX_LENGTH},
			   {"minItems", SCHEMA_MIN_ITEMS},           {"maxItems", SCHEMA_MAX_ITEMS},
			   {"minProperties", SCHEMA_MIN_PROPERTIES}, {"maxProperties", SCHEMA_MAX_PROPERTIES}};
	int i = 0;
	Datum number;
	Datum bound;

	while (strcmp(ops[i].keyword, keyword) != 0)
		i++;
	if (value->type != jbvNumeric)
		refuse(sub->pointer, "\"%s\" must be a whole number that is not negative", keyword);
	number = NumericGetDatum(value->val.numeric);
	bound = DirectFunctionCall1(int4_numeric, Int32GetDatum(PG_INT32_MAX));
	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale, number)) != 0 ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, number, bound)) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, number,
										 DirectFunctionCall1(int4_numeric, Int32GetDatum(0)))))
		refuse(sub->pointer, "\"%s\" must be a whole number between 0 and %d", keyword,
			   PG_INT32_MAX);
	emit(sub, ops[i].op, DatumGetInt32(DirectFunctionCall1(numeric_int4, number)), 0, 0);
}

/* Refuse a pattern that is no regular expression. */
static void
check_pattern(const Subschema *sub, const char *pattern, int len)
{
	pg_wchar *chars = palloc(sizeof(pg_wchar) * (len + 1));
	int nchars = pg_mb2wchar_with_len(pattern, chars, len);
	regex_t regex;
	char why[100];
	int result = pg_regcomp(&regex, chars, nchars, REG_ADVANCED, C_COLLATION_OID);

	pfree(chars);
	if (result == REG_OKAY)
	{
		pg_regfree(&regex);
		return;
	}
	CHECK_FOR_INTERRUPTS();
	pg_regerror(result, &regex, why, sizeof(why));
	refuse(sub->pointer, "\"pattern\" is not a regular expression: %s", why);
}

/* pattern; PostgreSQL keeps it compiled, so only its text is needed */
static void
compile_pattern(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	if (value->type != jbvString)
		refuse(sub->pointer, "\"pattern\" must be a string");
	check_pattern(sub, value->val.string.val, value->val.string.len);
	emit(sub, SCHEMA_PATTERN, pool_add(&compiler->values, value, 1), 0, 0);
}

/* format; one that pev cannot check is refused rather than ignored */
static void
compile_format(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	SchemaFormat format;

	if (value->type != jbvString)
		refuse(sub->pointer, "\"format\" must be a string");
	if (!schema_format_by_name(value->val.string.val, value->val.string.len, &format))
		refuse(sub->pointer, "unknown format \"%.*s\"", Min(value->val.string.len, 64),
			   value->val.string.val);
	emit(sub, SCHEMA_FORMAT, format, 0, 0);
}

/* items, one schema for all of them */
static void
compile_items(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	emit(sub, SCHEMA_ITEMS,
		 compile_node(compiler, value, pointer_down(sub->pointer, keyword, strlen(keyword))), 0, 0);
}

/* Compile "properties" into a list of SchemaProperty, sorted because jsonb is. */
static List *
collect_properties(Compiler *compiler, Subschema *sub)
{
	List *result = NIL;
	JsonbValue properties;
	JsonbWalk keys;
	JsonbWalk values;
	const char *pointer = pointer_down(sub->pointer, "properties", strlen("properties"));

	if (!jsonb_object_get(sub->object, "properties", &properties))
		return NIL;
	if (!jsonb_value_is_object(&properties))
		refuse(sub->pointer, "\"properties\" must be an object");
	keys = jsonb_walk_from(properties.val.binary.data, 0);
	values =
		jsonb_walk_from(properties.val.binary.data, JsonContainerSize(properties.val.binary.data));
	for (int i = JsonContainerSize(properties.val.binary.data); i > 0; i--)
	{
		SchemaProperty *property = palloc0(sizeof(SchemaProperty));
		JsonbValue key;
		JsonbValue schema;

		jsonb_walk_next_key(&keys, &key);
		jsonb_walk_next(&values, &schema);
		property->name = key.val.string.val;
		property->len = key.val.string.len;
		property->node =
			compile_node(compiler, &schema, pointer_down(pointer, property->name, property->len));
		result = lappend(result, property);
	}
	return result;
}

/* Sort order of properties: that of jsonb keys. */
static int
property_cmp(const ListCell *a, const ListCell *b)
{
	const SchemaProperty *pa = lfirst(a);
	const SchemaProperty *pb = lfirst(b);

	return jsonb_key_cmp(pa->name, pa->len, pb->name, pb->len);
}

/* Mark the properties in "required", adding those that "properties" does not name. */
static List *
mark_required(Subschema *sub, List *properties)
{
	JsonbValue required;
	JsonbWalk walk;
	int count;

	if (!jsonb_object_get(sub->object, "required", &required))
		return properties;
	if (!as_array(&required, &walk, &count))
		refuse(sub->pointer, "\"required\" must be an array of strings");
	while (walk.index < count)
	{
		JsonbValue name;
		SchemaProperty *found = NULL;
		ListCell *lc;

		jsonb_walk_next(&walk, &name);
		if (name.type != jbvString)
			refuse(sub->pointer, "\"required\" must be an array of strings");
		foreach (lc, properties)
		{
			SchemaProperty *property = lfirst(lc);

			if (jsonb_key_cmp(property->name, property->len, name.val.string.val,
							  name.val.string.len) == 0)
				found = property;
		}
		if (found == NULL)
		{
			found = palloc0(sizeof(SchemaProperty));
			found->name = name.val.string.val;
			found->len = name.val.string.len;
			found->node = SCHEMA_NO_NODE;
			properties = lappend(properties, found);
		}
		found->required = true;
	}
	list_sort(properties, property_cmp);
	return properties;
}

/* properties, required and additionalProperties become one instruction */
static void
compile_object(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	List *properties;
	ListCell *lc;
	JsonbValue others;
	int others_node = SCHEMA_NO_NODE;
	int first;

	if (sub->object_done)
		return;
	sub->object_done = true;
	properties = mark_required(sub, collect_properties(compiler, sub));
	if (jsonb_object_get(sub->object, "additionalProperties", &others))
	{
		if (others.type == jbvBool)
			others_node = others.val.boolean ? SCHEMA_NO_NODE : SCHEMA_DENY;
		else
			others_node = compile_node(compiler, &others,
									   pointer_down(sub->pointer, "additionalProperties",
													strlen("additionalProperties")));
	}
	first = compiler->properties.count;
	foreach (lc, properties)
		pool_add(&compiler->properties, lfirst(lc), 1);
	emit(sub, SCHEMA_OBJECT, first, list_length(properties), others_node);
}

/* allOf, anyOf, oneOf */
static void
compile_list(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	SchemaOp op = strcmp(keyword, "allOf") == 0
					  ? SCHEMA_ALL_OF
					  : (strcmp(keyword, "anyOf") == 0 ? SCHEMA_ANY_OF : SCHEMA_ONE_OF);
	const char *pointer = pointer_down(sub->pointer, keyword, strlen(keyword));
	List *nodes = NIL;
	ListCell *lc;
	JsonbWalk walk;
	int count;
	int first;

	if (!as_array(value, &walk, &count) || count == 0)
		refuse(sub->pointer, "\"%s\" must be an array of at least one schema", keyword);
	while (walk.index < count)
	{
		JsonbValue schema;
		const char *where = psprintf("%s/%d", pointer, walk.index);

		jsonb_walk_next(&walk, &schema);
		nodes = lappend_int(nodes, compile_node(compiler, &schema, where));
	}
	first = compiler->lists.count;
	foreach (lc, nodes)
		pool_add(&compiler->lists, &lfirst_int(lc), 1);
	emit(sub, op, first, count, 0);
}

/* not */
static void
compile_not(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	emit(sub, SCHEMA_NOT, compile_node(compiler, value, pointer_down(sub->pointer, "not", 3)), 0,
		 0);
}

/* The node of a keyword beside "if", or none. */
static int
compile_branch(Compiler *compiler, Subschema *sub, const char *keyword)
{
	JsonbValue schema;

	if (!jsonb_object_get(sub->object, keyword, &schema))
		return SCHEMA_NO_NODE;
	return compile_node(compiler, &schema, pointer_down(sub->pointer, keyword, strlen(keyword)));
}

/* if, then and else become one instruction */
static void
compile_if(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	int condition = compile_branch(compiler, sub, "if");
	int then_node = compile_branch(compiler, sub, "then");
	int else_node = compile_branch(compiler, sub, "else");

	/* without "if" the other two constrain nothing, but they are schemas all the same */
	if (sub->if_done)
		return;
	sub->if_done = true;
	if (condition != SCHEMA_NO_NODE)
		emit(sub, SCHEMA_IF, condition, then_node, else_node);
}

/* $defs and definitions: compiled even if nothing refers to them, so that faults show */
static void
compile_defs(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	JsonbWalk keys;
	JsonbWalk values;
	const char *pointer = pointer_down(sub->pointer, keyword, strlen(keyword));

	if (!jsonb_value_is_object(value))
		refuse(sub->pointer, "\"%s\" must be an object", keyword);
	keys = jsonb_walk_from(value->val.binary.data, 0);
	values = jsonb_walk_from(value->val.binary.data, JsonContainerSize(value->val.binary.data));
	for (int i = JsonContainerSize(value->val.binary.data); i > 0; i--)
	{
		JsonbValue key;
		JsonbValue schema;

		jsonb_walk_next_key(&keys, &key);
		jsonb_walk_next(&values, &schema);
		compile_node(compiler, &schema,
					 pointer_down(pointer, key.val.string.val, key.val.string.len));
	}
}

/* One reference token of a JSON Pointer, ~0 and ~1 undone. */
static char *
unescape_token(const char *token, int len)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < len; i++)
	{
		if (token[i] == '~' && i + 1 < len && (token[i + 1] == '0' || token[i + 1] == '1'))
			appendStringInfoChar(&out, token[++i] == '0' ? '~' : '/');
		else
			appendStringInfoChar(&out, token[i]);
	}
	return out.data;
}

/* Find what "#" or "#/…" names in the schema. */
static bool
resolve_ref(Compiler *compiler, const char *ref, JsonbValue *target)
{
	const char *rest = ref + 1;

	jsonb_root_value(compiler->schema, target);
	if (ref[0] != '#')
		return false;
	while (*rest != '\0')
	{
		const char *end;
		char *token;

		if (*rest++ != '/' || target->type != jbvBinary)
			return false;
		end = rest + strcspn(rest, "/");
		token = unescape_token(rest, end - rest);
		if (JsonContainerIsObject(target->val.binary.data))
		{
			if (!jsonb_object_get(target->val.binary.data, token, target))
				return false;
		}
		else
		{
			char *stop;
			unsigned long index = strtoul(token, &stop, 10);
			JsonbWalk walk;

			if (token[0] == '\0' || *stop != '\0' ||
				index >= (unsigned long) JsonContainerSize(target->val.binary.data))
				return false;
			walk = jsonb_walk_from(target->val.binary.data, (int) index);
			jsonb_walk_next(&walk, target);
		}
		rest = end;
	}
	return true;
}

/* $ref, within the schema */
static void
compile_ref(Compiler *compiler, Subschema *sub, const char *keyword, const JsonbValue *value)
{
	JsonbValue target;
	char *ref;

	if (value->type != jbvString)
		refuse(sub->pointer, "\"$ref\" must be a string");
	ref = pnstrdup(value->val.string.val, value->val.string.len);
	if (!resolve_ref(compiler, ref, &target))
		refuse(sub->pointer, "\"$ref\" names \"%.200s\", which is not in this schema", ref);
	emit(sub, SCHEMA_REF, compile_node(compiler, &target, ref + 1), 0, 0);
}

/*
 * Every keyword, in the order in which it is checked.  A NULL compiler means
 * that the keyword says something about the schema, not about instances.
 */
static const struct
{
	const char *name;
	KeywordCompiler compile;
} keywords[] = {
	{"type", compile_type},
	{"const", compile_const},
	{"enum", compile_enum},
	{"minimum", compile_number},
	{"maximum", compile_number},
	{"exclusiveMinimum", compile_number},
	{"exclusiveMaximum", compile_number},
	{"multipleOf", compile_number},
	{"minLength", compile_count},
	{"maxLength", compile_count},
	{"pattern", compile_pattern},
	{"format", compile_format},
	{"minItems", compile_count},
	{"maxItems", compile_count},
	{"items", compile_items},
	{"minProperties", compile_count},
	{"maxProperties", compile_count},
	{"properties", compile_object},
	{"required", compile_object},
	{"additionalProperties", compile_object},
	{"allOf", compile_list},
	{"anyOf", compile_list},
	{"oneOf", compile_list},
	{"not", compile_not},
	{"if", compile_if},
	{"then", compile_if},
	{"else", compile_if},
	{"$ref", compile_ref},
	{"$defs", compile_defs},
	{"definitions", compile_defs},
	{"$schema", NULL},
	{"$id", NULL},
	{"$comment", NULL},
	{"title", NULL},
	{"description", NULL},
	{"default", NULL},
	{"deprecated", NULL},
	{"readOnly", NULL},
	{"writeOnly", NULL},
	{"examples", NULL},
};

/* Is this key the given name? */
static bool
key_is(const JsonbValue *key, const char *name)
{
	return strlen(name) == (size_t) key->val.string.len &&
		   memcmp(name, key->val.string.val, key->val.string.len) == 0;
}

/* Does a pointer lead to a property of the instance itself, "/properties/NAME"? */
static bool
is_top_property(const char *pointer)
{
	static const char prefix[] = "/properties/";

	return strncmp(pointer, prefix, strlen(prefix)) == 0 &&
		   strchr(pointer + strlen(prefix), '/') == NULL;
}

/*
 * Refuse a key that is neither a keyword nor a private one.  pev's own private
 * keywords, which stamp.c reads, are refused where they would have no effect.
 */
static void
check_keyword(const JsonbValue *key, const char *pointer)
{
	static const char own[] = "x-pev-";
	const char *name = key->val.string.val;
	int len = key->val.string.len;

	if (key_is(key, "x-pev-stamp") || key_is(key, "x-pev-round"))
	{
		if (!is_top_property(pointer))
			refuse(pointer, "\"%.*s\" has an effect only on a property of the event itself", len,
				   name);
		return;
	}
	if (len >= 2 && memcmp(name, "x-", 2) == 0 &&
		((size_t) len < strlen(own) || memcmp(name, own, strlen(own)) != 0))
		return;
	for (int i = 0; i < (int) lengthof(keywords); i++)
		if (key_is(key, keywords[i].name))
			return;
	refuse(pointer, "unknown keyword \"%.*s\"", Min(len, 64), name);
}

/* Compile an object schema, keyword by keyword. */
static void
compile_keywords(Compiler *compiler, Subschema *sub)
{
	JsonbWalk keys = jsonb_walk_from(sub->object, 0);

	for (int i = JsonContainerSize(sub->object); i > 0; i--)
	{
		JsonbValue key;

		jsonb_walk_next_key(&keys, &key);
		check_keyword(&key, sub->pointer);
	}
	for (int i = 0; i < (int) lengthof(keywords); i++)
	{
		JsonbValue value;

		if (keywords[i].compile != NULL && jsonb_object_get(sub->object, keywords[i].name, &value))
			keywords[i].compile(compiler, sub, keywords[i].name, &value);
	}
}

/* The node of a subschema that was met before, or SCHEMA_NO_NODE. */
static int
find_compiled(const Compiler *compiler, const void *where)
{
	ListCell *lc;

	foreach (lc, compiler->compiled)
	{
		CompiledNode *compiled = lfirst(lc);

		if (compiled->where == where)
			return compiled->node;
	}
	return SCHEMA_NO_NODE;
}

/* Write a finished node: its instructions and the end. */
static void
finish_node(Compiler *compiler, int node, Subschema *sub)
{
	static const SchemaInstr end = {SCHEMA_END, 0, 0, 0};
	ListCell *lc;

	((int *) compiler->nodes.data)[node] = compiler->instrs.count;
	foreach (lc, sub->instrs)
		pool_add(&compiler->instrs, lfirst(lc), 1);
	pool_add(&compiler->instrs, &end, 1);
}

/* Compile a schema, which is an object, true or false; the number of its node. */
static int
compile_node(Compiler *compiler, const JsonbValue *schema, const char *pointer)
{
	static const int unfinished = -1;
	Subschema sub = {NULL, pointer, NIL, false, false};
	int node;

	check_stack_depth();
	if (schema->type == jbvBool)
	{
		node = pool_add(&compiler->nodes, &unfinished, 1);
		if (!schema->val.boolean)
			emit(&sub, SCHEMA_FALSE, 0, 0, 0);
		finish_node(compiler, node, &sub);
		return node;
	}
	if (!jsonb_value_is_object(schema))
		refuse(pointer, "a schema must be an object, true or false");
	sub.object = schema->val.binary.data;
	node = find_compiled(compiler, sub.object);
	if (node == SCHEMA_NO_NODE)
	{
		CompiledNode *compiled = palloc(sizeof(CompiledNode));

		node = pool_add(&compiler->nodes, &unfinished, 1);
		compiled->where = sub.object;
		compiled->node = node;
		compiler->compiled = lappend(compiler->compiled, compiled);
		compile_keywords(compiler, &sub);
		finish_node(compiler, node, &sub);
	}
	return node;
}

/* How far check_recursion() has come with a node. */
typedef enum NodeState
{
	NODE_UNSEEN,
	NODE_ACTIVE, /* on the way to the node at hand */
	NODE_DONE
} NodeState;

/*
 * Refuse a schema that applies itself to the same value without end, as
 * {"$ref": "#"} does.
 */
static void
check_recursion(const SchemaProgram *program, int node, NodeState *state)
{
	if (node < 0 || state[node] == NODE_DONE)
		return;
	if (state[node] == NODE_ACTIVE)
		refuse("", "a \"$ref\" leads back to itself without reading further into the value");
	check_stack_depth();
	state[node] = NODE_ACTIVE;
	for (const SchemaInstr *instr = &program->instrs[program->nodes[node]]; instr->op != SCHEMA_END;
		 instr++)
		switch (instr->op)
		{
			case SCHEMA_REF:
			case SCHEMA_NOT:
				check_recursion(program, instr->a, state);
				break;
			case SCHEMA_IF:
				check_recursion(program, instr->a, state);
				check_recursion(program, instr->b, state);
				check_recursion(program, instr->c, state);
				break;
			case SCHEMA_ALL_OF:
			case SCHEMA_ANY_OF:
			case SCHEMA_ONE_OF:
				for (int i = 0; i < instr->b; i++)
					check_recursion(program, program->lists[instr->a + i], state);
				break;
			default:
				break;
		}
	state[node] = NODE_DONE;
}

/* Compile into the current memory context. */
static SchemaProgram *
compile_program(const Jsonb *schema)
{
	SchemaProgram *program = palloc0(sizeof(SchemaProgram));
	Compiler compiler = {schema,
						 {NULL, sizeof(SchemaInstr)},
						 {NULL, sizeof(int)},
						 {NULL, sizeof(SchemaProperty)},
						 {NULL, sizeof(int)},
						 {NULL, sizeof(JsonbValue)}};
	NodeState *state;
	JsonbValue root;

	jsonb_root_value(schema, &root);
	program->root = compile_node(&compiler, &root, "");
	program->instrs = (SchemaInstr *) compiler.instrs.data;
	program->nodes = (int *) compiler.nodes.data;
	program->properties = (SchemaProperty *) compiler.properties.data;
	program->lists = (int *) compiler.lists.data;
	program->values = (JsonbValue *) compiler.values.data;
	state = palloc0(compiler.nodes.count * sizeof(NodeState));
	for (int i = 0; i < compiler.nodes.count; i++)
		check_recursion(program, i, state);
	return program;
}

/*
 * Compile a schema into a context of its own under `parent`.
 *
 * Raises 22023 for what is not a schema pev understands, saying where, and
 * 54000 for one beyond the limits.
 */
SchemaProgram *
schema_compile(const Jsonb *schema, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "pev schema", ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	Jsonb *copy = palloc(VARSIZE(schema));
	SchemaProgram *program;

	memcpy(copy, schema, VARSIZE(schema));
	program = compile_program(copy);
	program->context = context;
	MemoryContextSwitchTo(oldcontext);
	/* only now does it outlive the caller: a failure above leaves nothing behind */
	MemoryContextSetParent(context, parent);
	return program;
}

/* Free a program and all it holds. */
void
schema_free(SchemaProgram *program)
{
	MemoryContextDelete(program->context);
}

/*
 * schema_program.h
 *		A JSON Schema, compiled.
 *
 * A schema becomes a set of nodes.  A node is a run of instructions in one
 * flat array, closed by SCHEMA_END; a value conforms to the node when every
 * instruction holds.  Instructions name other nodes by number, so that a $ref
 * may point anywhere, backwards included.  Everything lives in one memory
 * context, that of the SchemaProgram, and is never changed after compiling.
 *
 * Neither module knows SPI, tables or events: program and compiler can be
 * tested and fuzzed alone.
 */
#ifndef PEV_SCHEMA_PROGRAM_H
#define PEV_SCHEMA_PROGRAM_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* What an instruction demands.  a, b and c are its operands. */
typedef enum SchemaOp
{
	SCHEMA_END,               /* the node holds */
	SCHEMA_FALSE,             /* nothing conforms */
	SCHEMA_TYPE,              /* a: mask of SchemaType */
	SCHEMA_CONST,             /* a: value */
	SCHEMA_ENUM,              /* a: first value, b: number of values */
	SCHEMA_MINIMUM,           /* a: value */
	SCHEMA_MAXIMUM,           /* a: value */
	SCHEMA_EXCLUSIVE_MINIMUM, /* a: value */
	SCHEMA_EXCLUSIVE_MAXIMUM, /* a: value */
	SCHEMA_MULTIPLE_OF,       /* a: value */
	SCHEMA_MIN_LENGTH,        /* a: characters */
	SCHEMA_MAX_LENGTH,        /* a: characters */
	SCHEMA_PATTERN,           /* a: value */
	SCHEMA_FORMAT,            /* a: SchemaFormat */
	SCHEMA_MIN_ITEMS,         /* a: items */
	SCHEMA_MAX_ITEMS,         /* a: items */
	SCHEMA_ITEMS,             /* a: node */
	SCHEMA_MIN_PROPERTIES,    /* a: properties */
	SCHEMA_MAX_PROPERTIES,    /* a: properties */
	SCHEMA_OBJECT,            /* a: first property, b: number of properties, c: node for others */
	SCHEMA_ALL_OF,            /* a: first node in list, b: number of nodes */
	SCHEMA_ANY_OF,            /* a: first node in list, b: number of nodes */
	SCHEMA_ONE_OF,            /* a: first node in list, b: number of nodes */
	SCHEMA_NOT,               /* a: node */
	SCHEMA_IF,                /* a: node, b: then-node or none, c: else-node or none */
	SCHEMA_REF                /* a: node */
} SchemaOp;

/* The types of JSON Schema, as bits; an integer is a number too. */
#define SCHEMA_T_NULL    0x01
#define SCHEMA_T_BOOLEAN 0x02
#define SCHEMA_T_STRING  0x04
#define SCHEMA_T_INTEGER 0x08
#define SCHEMA_T_NUMBER  0x10
#define SCHEMA_T_ARRAY   0x20
#define SCHEMA_T_OBJECT  0x40

/* The formats that are checked, not merely noted. */
typedef enum SchemaFormat
{
	SCHEMA_FORMAT_DATE_TIME,
	SCHEMA_FORMAT_UUID
} SchemaFormat;

#define SCHEMA_NO_NODE (-1) /* no constraint */
#define SCHEMA_DENY    (-2) /* in SCHEMA_OBJECT's c: other properties are faults */

typedef struct SchemaInstr
{
	SchemaOp op;
	int a;
	int b;
	int c;
} SchemaInstr;

/* A property that an object node knows, sorted as jsonb sorts keys. */
typedef struct SchemaProperty
{
	const char *name; /* not null-terminated */
	int len;
	int node; /* SCHEMA_NO_NODE: listed in "required" alone */
	bool required;
} SchemaProperty;

typedef struct SchemaProgram
{
	MemoryContext context; /* holds everything below, and this */
	SchemaInstr *instrs;
	int *nodes; /* node number → index of its first instruction */
	SchemaProperty *properties;
	int *lists;         /* node numbers of allOf, anyOf, oneOf */
	JsonbValue *values; /* constants, pointing into the schema's copy */
	int root;
} SchemaProgram;

/* One fault of one instance. */
typedef struct SchemaFault
{
	char *path;          /* JSON Pointer (RFC 6901) of the value; "" is the whole */
	const char *keyword; /* the schema keyword that does not hold */
	char *message;
} SchemaFault;

/* Faults found so far.  The caller sets `limit` and zeroes the rest. */
typedef struct SchemaReport
{
	int limit; /* keep no more than this many */
	int total; /* found, kept or not */
	int count; /* kept */
	SchemaFault *faults;
} SchemaReport;

/* schema_compile.c */
extern SchemaProgram *schema_compile(const Jsonb *schema, MemoryContext parent);
extern void schema_free(SchemaProgram *program);

/* schema_program.c */
extern bool schema_is_valid(const SchemaProgram *program, const JsonbValue *value);
extern void schema_validate(const SchemaProgram *program, const JsonbValue *value,
							SchemaReport *report);
extern void schema_report_add(SchemaReport *report, char *path, const char *keyword, char *message);
extern char *schema_report_text(const SchemaReport *report);
extern void schema_pointer_append(StringInfo pointer, const char *name, int len);
extern const char *schema_type_name(int type);

/* schema_format.c */
extern bool schema_format_holds(SchemaFormat format, const char *text, int len);
extern const char *schema_format_name(SchemaFormat format);
extern bool schema_format_by_name(const char *name, int len, SchemaFormat *format);

#endif /* PEV_SCHEMA_PROGRAM_H */

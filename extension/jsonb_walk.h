/*
 * jsonb_walk.h
 *		Reading a binary jsonb where it lies.
 *
 * PostgreSQL's own iterator allocates for every container it enters.  The
 * validator and the stamper look at every event twice at most, so they read
 * the entries directly: nothing here allocates, copies or fails.
 *
 * An object of n pairs has 2n entries, the keys first, then the values in the
 * order of their keys; keys are sorted by length, then bytewise.
 */
#ifndef PEV_JSONB_WALK_H
#define PEV_JSONB_WALK_H

#include "utils/builtins.h"
#include "utils/jsonb.h"

/* A position in the children of a container. */
typedef struct JsonbWalk
{
	const JsonbContainer *container;
	const char *base; /* where offsets count from */
	int index;        /* the entry that comes next */
	uint32 offset;    /* and where its content begins */
} JsonbWalk;

/* Where the contents of a container's children begin. */
static inline const char *
jsonb_content_base(const JsonbContainer *container)
{
	int nentries = JsonContainerSize(container);

	if (JsonContainerIsObject(container))
		nentries *= 2;
	return (const char *) &container->children[nentries];
}

/* Stand before entry `index` of a container. */
static inline JsonbWalk
jsonb_walk_from(const JsonbContainer *container, int index)
{
	JsonbWalk walk;

	walk.container = container;
	walk.base = jsonb_content_base(container);
	walk.index = index;
	walk.offset = index == 0 ? 0 : getJsonbOffset(container, index);
	return walk;
}

/* Give the next entry as a value that points into the datum, and step over it. */
static inline void
jsonb_walk_next(JsonbWalk *walk, JsonbValue *value)
{
	JEntry entry = walk->container->children[walk->index];
	uint32 start = walk->offset;
	uint32 end = start;

	JBE_ADVANCE_OFFSET(end, entry);
	if (JBE_ISSTRING(entry))
	{
		value->type = jbvString;
		value->val.string.val = unconstify(char *, walk->base) + start;
		value->val.string.len = end - start;
	}
	else if (JBE_ISNUMERIC(entry))
	{
		value->type = jbvNumeric;
		value->val.numeric = (Numeric) (unconstify(char *, walk->base) + INTALIGN(start));
	}
	else if (JBE_ISCONTAINER(entry))
	{
		value->type = jbvBinary;
		value->val.binary.data =
			(JsonbContainer *) (unconstify(char *, walk->base) + INTALIGN(start));
		value->val.binary.len = end - INTALIGN(start);
	}
	else if (JBE_ISBOOL(entry))
	{
		value->type = jbvBool;
		value->val.boolean = JBE_ISBOOL_TRUE(entry);
	}
	else
		value->type = jbvNull;
	walk->offset = end;
	walk->index++;
}

/* Give the next key of an object, always a string, and step over it. */
static inline void
jsonb_walk_next_key(JsonbWalk *walk, JsonbValue *key)
{
	uint32 end = walk->offset;

	JBE_ADVANCE_OFFSET(end, walk->container->children[walk->index]);
	key->type = jbvString;
	key->val.string.val = unconstify(char *, walk->base) + walk->offset;
	key->val.string.len = end - walk->offset;
	walk->offset = end;
	walk->index++;
}

/* The value that a whole datum stands for: a container, or the scalar inside its wrapper. */
static inline void
jsonb_root_value(const Jsonb *jb, JsonbValue *value)
{
	if (JB_ROOT_IS_SCALAR(jb))
	{
		JsonbWalk walk = jsonb_walk_from(&jb->root, 0);

		jsonb_walk_next(&walk, value);
		return;
	}
	value->type = jbvBinary;
	value->val.binary.data = unconstify(JsonbContainer *, &jb->root);
	value->val.binary.len = VARSIZE(jb) - VARHDRSZ;
}

/* Is this value an object? */
static inline bool
jsonb_value_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Compare two object keys as jsonb sorts them. */
static inline int
jsonb_key_cmp(const char *a, int alen, const char *b, int blen)
{
	if (alen != blen)
		return alen < blen ? -1 : 1;
	return memcmp(a, b, alen);
}

/* Find the value of a key; false if the object has no such key. */
static inline bool
jsonb_object_get(const JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, object), key, strlen(key),
										value) != NULL;
}

/* The value of a key as text; NULL if it is no string, which an owner's schema may allow. */
static inline text *
jsonb_object_get_text(const JsonbContainer *object, const char *key)
{
	JsonbValue value;

	if (!jsonb_object_get(object, key, &value) || value.type != jbvString)
		return NULL;
	return cstring_to_text_with_len(value.val.string.val, value.val.string.len);
}

#endif /* PEV_JSONB_WALK_H */

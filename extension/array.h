/*
 * array.h
 *		Arrays and their elements, by the type alone.
 *
 * PostgreSQL has the like from one of its minor releases on, which one differs.
 */
#ifndef PEV_ARRAY_H
#define PEV_ARRAY_H

#include "utils/array.h"
#include "utils/lsyscache.h"

/* An array of elements of a type, none of them null. */
static inline ArrayType *
array_make(Datum *elements, int count, Oid type)
{
	int16 len;
	bool byval;
	char align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	return construct_array(elements, count, type, len, byval, align);
}

/* The elements of an array; how many. */
static inline int
array_elements(ArrayType *array, Datum **elements, bool **nulls)
{
	int16 len;
	bool byval;
	char align;
	int count;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &len, &byval, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), len, byval, align, elements, nulls, &count);
	return count;
}

#endif /* PEV_ARRAY_H */

/*
 * arg.h
 *		The arguments of functions that are called from SQL.
 */
#ifndef PEV_ARG_H
#define PEV_ARG_H

#include "fmgr.h"

/* Refuse a NULL argument (22004). */
static inline void
require_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

#endif

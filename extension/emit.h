/*
 * emit.h
 *		Emitting from C.
 */
#ifndef PEV_EMIT_H
#define PEV_EMIT_H

#include "utils/jsonb.h"

extern void emit_event(Oid function, const char *type_name, int64 stream, Jsonb *data, bool own);

#endif /* PEV_EMIT_H */

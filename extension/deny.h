/*
 * deny.h
 *		The denial of an action whose time has run out.
 */
#ifndef PEV_DENY_H
#define PEV_DENY_H

#include "catalog.h"

extern bool deny_late(Oid function, const PevCatalog *catalog, text *action_id, bool own);
extern bool deny_late_at_once(const PevCatalog *catalog, text *action_id, int64 stream);

#endif /* PEV_DENY_H */

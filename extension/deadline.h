/*
 * deadline.h
 *		What the notifier does at a time: deny actions that nobody has decided.
 */
#ifndef PEV_DEADLINE_H
#define PEV_DEADLINE_H

#include "datatype/timestamp.h"

extern long deadline_wait(void);
extern void deadline_tend(TimestampTz earliest);

#endif /* PEV_DEADLINE_H */

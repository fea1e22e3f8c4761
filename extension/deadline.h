/*
 * deadline.h
 *		What the notifier does at a time: deny actions that nobody has decided.
 */
#ifndef PEV_DEADLINE_H
#define PEV_DEADLINE_H

extern long deadline_wait(void);
extern void deadline_tend(bool news);

#endif /* PEV_DEADLINE_H */

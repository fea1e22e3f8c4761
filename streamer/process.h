/*
 * process.h
 *		What the process takes of the machine.
 */
#ifndef PEV_PROCESS_H
#define PEV_PROCESS_H

extern void process_measure(void);

#endif

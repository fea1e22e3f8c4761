/*
 * alarm.h
 *		Alarms, of which there may be one for every client.
 */
#ifndef PEV_ALARM_H
#define PEV_ALARM_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed while it is not set.  Its memory is the caller's. */
typedef struct Alarm
{
	int64_t due; /* by loop_now */
	void (*ring)(void *arg);
	void *arg;
	size_t place; /* in the heap, from 1; 0: not set */
} Alarm;

extern void alarm_set(Alarm *alarm, int64_t due, void (*ring)(void *arg), void *arg);
extern void alarm_clear(Alarm *alarm);
extern void alarms_close(void);

#endif

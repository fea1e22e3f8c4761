/*
 * pace.h
 *		When the next thing is due, at a fixed rate.
 */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Pace
{
	int64_t start;  /* microseconds */
	int64_t end;    /* nothing is due from here on */
	double rate;    /* per second; 0: always due */
	uint64_t taken; /* how many have been done */
} Pace;

extern void pace_start(Pace *pace, double rate, double seconds);
extern bool pace_ended(const Pace *pace, int64_t now);
extern int64_t pace_next(const Pace *pace);

#endif

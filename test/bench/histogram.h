/*
 * histogram.h
 *		Durations, counted in buckets whose width grows with the value.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

/* 64 buckets to each power of two: a percentile is right to 1.6 %. */
#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_POWERS   40
#define HISTOGRAM_BUCKETS  (HISTOGRAM_POWERS << HISTOGRAM_SUB_BITS)

/* Values are microseconds, by convention only. */
typedef struct Histogram
{
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t bucket[HISTOGRAM_BUCKETS];
} Histogram;

extern void histogram_reset(Histogram *h);
extern void histogram_add(Histogram *h, int64_t value);
extern uint64_t histogram_percentile(const Histogram *h, double percent);
extern void histogram_print(const Histogram *h, const char *name, FILE *out);

#endif

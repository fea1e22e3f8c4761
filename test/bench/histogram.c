/*
 * histogram.c
 *		Durations, counted in buckets whose width grows with the value.
 *
 * Log-linear, as HdrHistogram: each power of two is cut into the same number of
 * buckets, so that millions of latencies cost a fixed amount of memory, adding
 * one costs a few instructions, and the error is relative.
 */
#include <inttypes.h>
#include <string.h>

#include "histogram.h"

#define SUB ((uint64_t) 1 << HISTOGRAM_SUB_BITS)

void
histogram_reset(Histogram *h)
{
	memset(h, 0, sizeof(*h));
}

/* The bucket a value falls into; the first 2 * SUB values have one each. */
static unsigned int
bucket_of(uint64_t value)
{
	unsigned int shift;
	uint64_t index;

	if (value < 2 * SUB)
		return (unsigned int) value;
	shift = 63 - (unsigned int) __builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	index = ((uint64_t) shift << HISTOGRAM_SUB_BITS) + (value >> shift);
	return index < HISTOGRAM_BUCKETS ? (unsigned int) index : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that falls into a bucket. */
static uint64_t
bucket_top(unsigned int index)
{
	unsigned int shift;

	if (index < 2 * SUB)
		return index;
	shift = (index >> HISTOGRAM_SUB_BITS) - 1;
	return ((index - ((uint64_t) shift << HISTOGRAM_SUB_BITS) + 1) << shift) - 1;
}

/* Count a value.  Below zero can only be clocks that disagree: counted as zero. */
void
histogram_add(Histogram *h, int64_t value)
{
	uint64_t v = value < 0 ? 0 : (uint64_t) value;

	h->count++;
	h->sum += v;
	if (v > h->max)
		h->max = v;
	h->bucket[bucket_of(v)]++;
}

/* The value that the given percentage of all values do not exceed; 0 if there are none. */
uint64_t
histogram_percentile(const Histogram *h, double percent)
{
	uint64_t rank = (uint64_t) (percent / 100 * (double) h->count + 0.5);
	uint64_t seen = 0;

	if (rank == 0)
		rank = 1;
	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		seen += h->bucket[i];
		if (seen >= rank)
			return bucket_top(i) < h->max ? bucket_top(i) : h->max;
	}
	return h->max;
}

/* Print it as a member of a JSON object. */
void
histogram_print(const Histogram *h, const char *name, FILE *out)
{
	fprintf(out,
			"\"%s\": {\"count\": %" PRIu64 ", \"mean\": %.1f, \"p50\": %" PRIu64
			", \"p90\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"p999\": %" PRIu64 ", \"max\": %" PRIu64
			"}",
			name, h->count, h->count > 0 ? (double) h->sum / (double) h->count : 0.0,
			histogram_percentile(h, 50), histogram_percentile(h, 90), histogram_percentile(h, 99),
			histogram_percentile(h, 99.9), h->max);
}

/*
 * metrics.h
 *		What the daemon counts, and the text in which Prometheus reads it.
 */
#ifndef PEV_METRICS_H
#define PEV_METRICS_H

#include <stdint.h>

#include "mem.h"

/* Counters and gauges; metrics.c says what each means. */
typedef enum Metric
{
	METRIC_BUILD_INFO,
	METRIC_CLIENTS,
	METRIC_CONNECTIONS,
	METRIC_SUBSCRIPTIONS,
	METRIC_REFUSED_CLIENTS,
	METRIC_REFUSED_CLIENTS_PER_IP,
	METRIC_REFUSED_DRAINING,
	METRIC_REFUSED_DATABASE,
	METRIC_REFUSED_TICKET,
	METRIC_DENIED_UNAUTHORIZED,
	METRIC_DENIED_FORBIDDEN,
	METRIC_EVICTED_SEND_TIMEOUT,
	METRIC_STREAMS,
	METRIC_EVENTS_TAIL,
	METRIC_EVENTS_CATCH_UP,
	METRIC_EVENTS_UNSTORED,
	METRIC_DELIVERIES,
	METRIC_SENT_BYTES,
	METRIC_WINDOW_BYTES,
	METRIC_PAGE_BYTES,
	METRIC_DROPPED_STREAM_BOUND,
	METRIC_DROPPED_TOTAL_BOUND,
	METRIC_DROPPED_PAGE_BOUND,
	METRIC_READS_TAIL,
	METRIC_READS_CATCH_UP,
	METRIC_DOORBELLS,
	METRIC_POLL_HITS,
	METRIC_DATABASE_UP,
	METRIC_DATABASE_RECONNECTS,
	METRIC_DATABASE_QUERIES,
	METRIC_PROCESS_CPU,
	METRIC_PROCESS_START,
	METRIC_PROCESS_RESIDENT,
	METRIC_PROCESS_VIRTUAL,
	METRIC_PROCESS_FDS,
	METRIC_PROCESS_MAX_FDS,
	METRICS
} Metric;

extern int64_t metric_values[METRICS];

/* Count; called for every delivery, hence here. */
static inline void
metric_add(Metric metric, int64_t n)
{
	metric_values[metric] += n;
}

/* Set a gauge. */
static inline void
metric_set(Metric metric, int64_t value)
{
	metric_values[metric] = value;
}

extern void metrics_start(const char *version);
extern void metrics_observe_age(int64_t us);
extern void metrics_render(Buf *out);

#endif

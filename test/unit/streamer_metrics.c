/*
 * streamer_metrics.c
 *		The text that Prometheus reads: values, units, and the histogram.
 */
#include <stdlib.h>

#include "metrics.h"
#include "streamer_tap.h"

/* Does the text have this line? */
static void
has_line(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	ok(at != NULL && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n', line);
}

/* All of it; the caller frees. */
static char *
render(void)
{
	Buf out;

	buf_init(&out);
	metrics_render(&out);
	return out.data;
}

static void
test_values(void)
{
	char *text;

	metrics_start("1.2.3");
	metric_add(METRIC_DELIVERIES, 3);
	metric_add(METRIC_DELIVERIES, 4);
	metric_set(METRIC_CLIENTS, 5);
	metric_set(METRIC_PROCESS_CPU, 12050000);
	text = render();
	has_line(text, "# TYPE pev_deliveries_total counter");
	has_line(text, "pev_deliveries_total 7");
	has_line(text, "pev_clients 5");
	has_line(text, "pev_build_info{version=\"1.2.3\"} 1");
	has_line(text, "process_cpu_seconds_total 12.05");
	has_line(text, "pev_events_read_total{read=\"catch_up\"} 0");
	free(text);
	metrics_start("1.2.3");
	metric_set(METRIC_PROCESS_CPU, 1);
	text = render();
	has_line(text, "process_cpu_seconds_total 0.000001");
	has_line(text, "pev_deliveries_total 0");
	free(text);
}

static void
test_ages(void)
{
	char *text;

	metrics_start("1");
	metrics_observe_age(0);
	metrics_observe_age(500);
	metrics_observe_age(501);
	metrics_observe_age(30000000);
	metrics_observe_age(30000001);
	text = render();
	has_line(text, "# TYPE pev_event_age_seconds histogram");
	has_line(text, "pev_event_age_seconds_bucket{le=\"0.0005\"} 2");
	has_line(text, "pev_event_age_seconds_bucket{le=\"0.001\"} 3");
	has_line(text, "pev_event_age_seconds_bucket{le=\"10\"} 3");
	has_line(text, "pev_event_age_seconds_bucket{le=\"30\"} 4");
	has_line(text, "pev_event_age_seconds_bucket{le=\"+Inf\"} 5");
	has_line(text, "pev_event_age_seconds_sum 60.001002");
	has_line(text, "pev_event_age_seconds_count 5");
	free(text);
}

int
main(void)
{
	test_values();
	test_ages();
	return done();
}

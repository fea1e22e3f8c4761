/*
 * metrics.c
 *		What the daemon counts, and the text in which Prometheus reads it.
 *
 * One table names everything that is shown, in the order in which it is shown;
 * whoever counts something adds to its value (metrics.h), and what can be
 * asked for (how many clients, how much memory) is set when somebody asks.
 * Values are whole numbers of a unit small enough; the table says how many of
 * those make the unit of the name.
 *
 * Labels are few and known beforehand: a stream's key is never among them, or
 * every execution would leave a time series behind.
 *
 * The format is version 0.0.4 of Prometheus's text format.  Pure: no libpq, no
 * libmicrohttpd.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "metrics.h"

typedef enum MetricType
{
	METRIC_COUNTER,
	METRIC_GAUGE
} MetricType;

/* Those of one family (one name) follow each other, and the first has its help. */
typedef struct MetricInfo
{
	const char *name;
	const char *label; /* one pair, or NULL */
	MetricType type;
	int64_t scale; /* so many of the value's unit are one of the name's */
	const char *help;
} MetricInfo;

static char metrics_version[64];

static const MetricInfo metrics_table[METRICS] = {
	[METRIC_BUILD_INFO] = {"pev_build_info", metrics_version, METRIC_GAUGE, 1,
						   "The version that runs."},
	[METRIC_CLIENTS] = {"pev_clients", NULL, METRIC_GAUGE, 1, "Subscribers that are connected."},
	[METRIC_CONNECTIONS] = {"pev_http_connections", NULL, METRIC_GAUGE, 1,
							"Connections that are open, those of subscribers among them."},
	[METRIC_SUBSCRIPTIONS] = {"pev_subscriptions_total", NULL, METRIC_COUNTER, 1,
							  "Streams opened for clients."},
	[METRIC_REFUSED_CLIENTS] = {"pev_clients_refused_total", "reason=\"max_clients\"",
								METRIC_COUNTER, 1,
								"Clients sent away, to come back later, by reason."},
	[METRIC_REFUSED_CLIENTS_PER_IP] = {"pev_clients_refused_total", "reason=\"max_clients_per_ip\"",
									   METRIC_COUNTER, 1, NULL},
	[METRIC_REFUSED_DRAINING] = {"pev_clients_refused_total", "reason=\"draining\"", METRIC_COUNTER,
								 1, NULL},
	[METRIC_REFUSED_DATABASE] = {"pev_clients_refused_total", "reason=\"database\"", METRIC_COUNTER,
								 1, NULL},
	[METRIC_REFUSED_TICKET] = {"pev_clients_refused_total", "reason=\"ticket_in_use\"",
							   METRIC_COUNTER, 1, NULL},
	[METRIC_DENIED_UNAUTHORIZED] = {"pev_requests_denied_total", "status=\"401\"", METRIC_COUNTER,
									1,
									"Requests denied for want of a valid token (401), or of a "
									"right that the token lacks (403)."},
	[METRIC_DENIED_FORBIDDEN] = {"pev_requests_denied_total", "status=\"403\"", METRIC_COUNTER, 1,
								 NULL},
	[METRIC_EVICTED_SEND_TIMEOUT] = {"pev_evictions_total", "reason=\"send_timeout\"",
									 METRIC_COUNTER, 1, "Clients closed, by reason."},
	[METRIC_EVICTED_HEADER_TIMEOUT] = {"pev_evictions_total", "reason=\"header_timeout\"",
									   METRIC_COUNTER, 1, NULL},
	[METRIC_EVICTED_BODY_TIMEOUT] = {"pev_evictions_total", "reason=\"body_timeout\"",
									 METRIC_COUNTER, 1, NULL},
	[METRIC_STREAMS] = {"pev_streams_watched", NULL, METRIC_GAUGE, 1,
						"Streams that have subscribers."},
	[METRIC_EVENTS_TAIL] = {"pev_events_read_total", "read=\"tail\"", METRIC_COUNTER, 1,
							"Events read from the table: at a stream's tail, for all of its "
							"subscribers, or to let one catch up."},
	[METRIC_EVENTS_CATCH_UP] = {"pev_events_read_total", "read=\"catch_up\"", METRIC_COUNTER, 1,
								NULL},
	[METRIC_EVENTS_UNSTORED] = {"pev_events_unstored_total", NULL, METRIC_COUNTER, 1,
								"Events that are not stored, received for delivery."},
	[METRIC_DELIVERIES] = {"pev_deliveries_total", NULL, METRIC_COUNTER, 1,
						   "Events written to clients, each counted once for each client."},
	[METRIC_SENT_BYTES] = {"pev_sent_bytes_total", NULL, METRIC_COUNTER, 1,
						   "Bytes of event streams written to clients."},
	[METRIC_WINDOW_BYTES] = {"pev_backlog_bytes", "part=\"windows\"", METRIC_GAUGE, 1,
							 "Events in memory: recent ones that subscribers share, and pages of "
							 "history of those that catch up."},
	[METRIC_PAGE_BYTES] = {"pev_backlog_bytes", "part=\"pages\"", METRIC_GAUGE, 1, NULL},
	[METRIC_DROPPED_STREAM_BOUND] = {"pev_backlog_dropped_total", "reason=\"stream_bytes\"",
									 METRIC_COUNTER, 1,
									 "Events dropped from memory, by the bound that was "
									 "reached; who lacks one reads it again."},
	[METRIC_DROPPED_TOTAL_BOUND] = {"pev_backlog_dropped_total", "reason=\"total_bytes\"",
									METRIC_COUNTER, 1, NULL},
	[METRIC_DROPPED_PAGE_BOUND] = {"pev_backlog_dropped_total", "reason=\"page_bytes\"",
								   METRIC_COUNTER, 1, NULL},
	[METRIC_READS_TAIL] = {"pev_reads_total", "read=\"tail\"", METRIC_COUNTER, 1,
						   "Positions read after: a stream's tail, or where a client that catches "
						   "up is. One query reads after many."},
	[METRIC_READS_CATCH_UP] = {"pev_reads_total", "read=\"catch_up\"", METRIC_COUNTER, 1, NULL},
	[METRIC_DOORBELLS] = {"pev_doorbells_total", NULL, METRIC_COUNTER, 1,
						  "Notifications received that tell where there are new events."},
	[METRIC_POLL_HITS] = {"pev_poll_hits_total", NULL, METRIC_COUNTER, 1,
						  "Events that the poll found, for which no doorbell had rung."},
	[METRIC_EMITS_STORED] = {"pev_emit_requests_total", "result=\"stored\"", METRIC_COUNTER, 1,
							 "Requests to emit, by what became of them."},
	[METRIC_EMITS_UNSTORED] = {"pev_emit_requests_total", "result=\"unstored\"", METRIC_COUNTER, 1,
							   NULL},
	[METRIC_EMITS_REFUSED] = {"pev_emit_requests_total", "result=\"refused\"", METRIC_COUNTER, 1,
							  NULL},
	[METRIC_EMITS_LIMITED] = {"pev_emit_requests_total", "result=\"limited\"", METRIC_COUNTER, 1,
							  NULL},
	[METRIC_EMITS_UNAVAILABLE] = {"pev_emit_requests_total", "result=\"unavailable\"",
								  METRIC_COUNTER, 1, NULL},
	[METRIC_EMIT_EVENTS] = {"pev_emit_events_total", NULL, METRIC_COUNTER, 1,
							"Events that requests held, whatever became of them."},
	[METRIC_JOBS_QUEUED] =
		{"pev_job_requests_total", "result=\"queued\"", METRIC_COUNTER, 1,
		 "Requests to queue a job, by what became of them, as for those to emit."},
	[METRIC_JOBS_REFUSED] = {"pev_job_requests_total", "result=\"refused\"", METRIC_COUNTER, 1,
							 NULL},
	[METRIC_JOBS_LIMITED] = {"pev_job_requests_total", "result=\"limited\"", METRIC_COUNTER, 1,
							 NULL},
	[METRIC_JOBS_UNAVAILABLE] = {"pev_job_requests_total", "result=\"unavailable\"", METRIC_COUNTER,
								 1, NULL},
	[METRIC_EMIT_PENDING] = {"pev_emit_pending", NULL, METRIC_GAUGE, 1,
							 "Requests to emit, or to queue a job, that wait for the database."},
	[METRIC_EMIT_CONNECTIONS] =
		{"pev_emit_connections", NULL, METRIC_GAUGE, 1,
		 "Connections to the database by which events are emitted and jobs queued."},
	[METRIC_BODY_BYTES] = {"pev_body_bytes", NULL, METRIC_GAUGE, 1,
						   "Memory taken by bodies of requests."},
	[METRIC_EXPORTS] = {"pev_exports", NULL, METRIC_GAUGE, 1, "Exports that are under way."},
	[METRIC_EXPORTS_COMPLETE] = {"pev_exports_total", "result=\"complete\"", METRIC_COUNTER, 1,
								 "Exports, by what became of them: sent in full, left by the "
								 "client, broken off by the server, refused, or not possible at "
								 "the time."},
	[METRIC_EXPORTS_LEFT] = {"pev_exports_total", "result=\"left\"", METRIC_COUNTER, 1, NULL},
	[METRIC_EXPORTS_BROKEN] = {"pev_exports_total", "result=\"broken\"", METRIC_COUNTER, 1, NULL},
	[METRIC_EXPORTS_REFUSED] = {"pev_exports_total", "result=\"refused\"", METRIC_COUNTER, 1, NULL},
	[METRIC_EXPORTS_UNAVAILABLE] = {"pev_exports_total", "result=\"unavailable\"", METRIC_COUNTER,
									1, NULL},
	[METRIC_EXPORT_EVENTS] = {"pev_export_events_total", NULL, METRIC_COUNTER, 1,
							  "Events written to exports."},
	[METRIC_EXPORT_BYTES] = {"pev_export_bytes_total", NULL, METRIC_COUNTER, 1,
							 "Bytes of exports, as they were sent."},
	[METRIC_PRESENCE_USERS] = {"pev_presence_users", NULL, METRIC_GAUGE, 1,
							   "Users that are present in streams, each counted once for each "
							   "stream, at whatever streamer."},
	[METRIC_PRESENCE_STREAMERS] = {"pev_presence_streamers", NULL, METRIC_GAUGE, 1,
								   "Other streamers of the database that have presence."},
	[METRIC_PRESENCE_OVERFLOWS] = {"pev_presence_overflows_total", NULL, METRIC_COUNTER, 1,
								   "Users not shown because there were too many, each time that "
								   "one came."},
	[METRIC_DATABASE_UP] = {"pev_database_up", NULL, METRIC_GAUGE, 1,
							"Is the database connected (1) or not (0)?"},
	[METRIC_DATABASE_RECONNECTS] = {"pev_database_reconnects_total", NULL, METRIC_COUNTER, 1,
									"Times the database was connected again."},
	[METRIC_DATABASE_QUERIES] = {"pev_database_queries_total", NULL, METRIC_COUNTER, 1,
								 "Queries sent to the database."},
	[METRIC_PROCESS_CPU] = {"process_cpu_seconds_total", NULL, METRIC_COUNTER, 1000000,
							"User and system CPU time spent."},
	[METRIC_PROCESS_START] = {"process_start_time_seconds", NULL, METRIC_GAUGE, 1,
							  "When the process started, in seconds of Unix time."},
	[METRIC_PROCESS_RESIDENT] = {"process_resident_memory_bytes", NULL, METRIC_GAUGE, 1,
								 "Resident memory."},
	[METRIC_PROCESS_VIRTUAL] = {"process_virtual_memory_bytes", NULL, METRIC_GAUGE, 1,
								"Virtual memory."},
	[METRIC_PROCESS_FDS] = {"process_open_fds", NULL, METRIC_GAUGE, 1, "Open file descriptors."},
	[METRIC_PROCESS_MAX_FDS] = {"process_max_fds", NULL, METRIC_GAUGE, 1,
								"The most file descriptors that can be open."},
};

int64_t metric_values[METRICS];

/* Upper bounds of the histogram's buckets, in microseconds. */
static const int64_t age_bounds[] = {500,     1000,    2500,    5000,     10000,
									 25000,   50000,   100000,  250000,   500000,
									 1000000, 2500000, 5000000, 10000000, 30000000};

#define AGE_BOUNDS (sizeof(age_bounds) / sizeof(age_bounds[0]))
#define SECOND     INT64_C(1000000)

static struct
{
	int64_t buckets[AGE_BOUNDS + 1]; /* not cumulative; the last has no bound */
	int64_t sum;
} ages;

/* Start from zero. */
void
metrics_start(const char *version)
{
	memset(metric_values, 0, sizeof(metric_values));
	memset(&ages, 0, sizeof(ages));
	snprintf(metrics_version, sizeof(metrics_version), "version=\"%s\"", version);
	metric_set(METRIC_BUILD_INFO, 1);
	metric_set(METRIC_PROCESS_START, (int64_t) time(NULL));
}

/* An event of this age, in microseconds, is written to a client. */
void
metrics_observe_age(int64_t us)
{
	size_t bucket = 0;

	while (bucket < AGE_BOUNDS && us > age_bounds[bucket])
		bucket++;
	ages.buckets[bucket]++;
	ages.sum += us;
}

/* Add a value of which so many make one, without trailing zeros. */
static void
value_render(Buf *out, int64_t value, int64_t scale)
{
	int digits = 0;
	int64_t rest = value % scale;

	buf_format(out, "%" PRId64, value / scale);
	for (int64_t s = scale; s > 1; s /= 10)
		digits++;
	for (; rest != 0 && rest % 10 == 0; rest /= 10)
		digits--;
	if (rest != 0)
		buf_format(out, ".%0*" PRId64, digits, rest);
}

/* Add what stands before a family's samples. */
static void
family_render(Buf *out, const char *name, const char *type, const char *help)
{
	buf_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Add the histogram of ages. */
static void
ages_render(Buf *out)
{
	static const char name[] = "pev_event_age_seconds";
	int64_t count = 0;

	family_render(out, name, "histogram",
				  "Time from an event's creation to its being written to a client that was "
				  "connected by then.");
	for (size_t i = 0; i < AGE_BOUNDS; i++)
	{
		count += ages.buckets[i];
		buf_format(out, "%s_bucket{le=\"", name);
		value_render(out, age_bounds[i], SECOND);
		buf_format(out, "\"} %" PRId64 "\n", count);
	}
	count += ages.buckets[AGE_BOUNDS];
	buf_format(out, "%s_bucket{le=\"+Inf\"} %" PRId64 "\n%s_sum ", name, count, name);
	value_render(out, ages.sum, SECOND);
	buf_format(out, "\n%s_count %" PRId64 "\n", name, count);
}

/* Add all of it. */
void
metrics_render(Buf *out)
{
	static const char *const types[] = {[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge"};

	for (int i = 0; i < METRICS; i++)
	{
		const MetricInfo *info = &metrics_table[i];

		if (info->help != NULL)
			family_render(out, info->name, types[info->type], info->help);
		if (info->label != NULL)
			buf_format(out, "%s{%s} ", info->name, info->label);
		else
			buf_format(out, "%s ", info->name);
		value_render(out, metric_values[i], info->scale);
		buf_text(out, "\n");
	}
	ages_render(out);
}

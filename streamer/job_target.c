/*
 * job_target.c
 *		Which job a request queues: of which kind, and for which channel.
 *
 * The kind is the path's, the channel the parameter's, for a channel is written
 * with a colon and chosen by the client, while kinds are what the service offers.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <string.h>

#include "job_target.h"

#define PATH   "/jobs/"
#define DIGITS "0123456789"

static const char bad_kind[] =
	"A kind of job has 1 to 63 letters, digits, \"_\" and \"-\", and begins with a letter.";

/* Take the kind from the path.  pev_job_kind has the same rule. */
static const char *
job_take_kind(const char *raw, JobTarget *job)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-" DIGITS;
	char kind[JOB_KIND_MAX + 1];
	size_t len;

	if (percent_decode(raw, strcspn(raw, "?"), false, kind, sizeof(kind), &len) != NULL ||
		len == 0 || strspn(kind, allowed) != len || strchr("_-" DIGITS, *kind) != NULL)
		return bad_kind;
	memcpy(job->kind, kind, len + 1);
	return NULL;
}

/* Take the channel; of several the last counts. */
static const char *
job_take_channel(void *arg, const char *name, const char *value)
{
	JobTarget *job = arg;

	(void) name;
	job->has_channel = true;
	return stream_key_canonical(value, strlen(value), &job->channel);
}

/* Take apart the raw target of a request, whose path goes on after "/jobs/". */
const char *
job_target_parse(const char *target, JobTarget *job)
{
	static const char *const names[] = {"channel", NULL};
	const char *query = strchr(target, '?');
	const char *error;

	*job = (JobTarget){0};
	error = job_take_kind(target + strlen(PATH), job);
	if (error == NULL)
		error = query_each(query != NULL ? query + 1 : NULL, names, job_take_channel, job);
	return error;
}

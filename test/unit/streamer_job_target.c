/*
 * streamer_job_target.c
 *		Which job a request queues.
 */
#include "job_target.h"
#include "streamer_tap.h"

/* A target must be understood so; NULL for channel: it names none. */
static void
is_target(const char *target, const char *kind, const char *channel)
{
	JobTarget job;

	if (!is(job_target_parse(target, &job), NULL, target))
		return;
	is(job.kind, kind, "its kind");
	is(job.has_channel ? job.channel.text : NULL, channel, "its channel");
}

/* A target must be refused, with a sentence that begins so. */
static void
is_wrong(const char *target, const char *kind, const char *why)
{
	JobTarget job;
	const char *error = job_target_parse(target, &job);

	ok(error != NULL && strncmp(error, why, strlen(why)) == 0, target);
	is(job.kind, kind, "what it names");
}

int
main(void)
{
	static const char kind[] = "A kind of job has 1 to 63 letters";
	char longest[80] = "/jobs/";

	is_target("/jobs/generate_image", "generate_image", NULL);
	is_target("/jobs/generate_image?", "generate_image", NULL);
	is_target("/jobs/K-9?channel=user:u_1", "K-9", "user:u_1");
	is_target("/jobs/k?channel=user%3Au_1&token=x", "k", "user:u_1");
	is_target("/jobs/k?x=%C3%BC&channel=a&channel=channel:b", "k", "channel:b");
	is_target("/jobs/gener%61te", "generate", NULL);
	memset(longest + 6, 'k', 63);
	is_target(longest, longest + 6, NULL);
	longest[6 + 63] = 'k';
	is_wrong(longest, "", kind);
	is_wrong("/jobs/?channel=user:u", "", kind);
	is_wrong("/jobs/9a", "", kind);
	is_wrong("/jobs/_a", "", kind);
	is_wrong("/jobs/-a", "", kind);
	is_wrong("/jobs/a%20b", "", kind);
	is_wrong("/jobs/%C3%A4", "", kind);
	is_wrong("/jobs/a%2Fb", "", kind);
	is_wrong("/jobs/a%00", "", kind);
	is_wrong("/jobs/a%", "", kind);
	is_wrong("/jobs/k?channel=", "k", "A stream key has 1 to 200 bytes");
	is_wrong("/jobs/k?channel", "k", "A stream key has 1 to 200 bytes");
	is_wrong("/jobs/k?channel=user:", "k", "A stream key has 1 to 200 bytes");
	is_wrong("/jobs/k?channel=%zz", "k", "The URL holds a malformed percent escape.");
	is_wrong("/jobs/k?channel=user:u&channel=+", "k", "A stream key has 1 to 200 bytes");
	return done();
}

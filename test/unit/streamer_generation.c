/*
 * streamer_generation.c
 *		The stream of a generation: progress without its name, and an end when nothing happens.
 */
#include <inttypes.h>

#include "alarm.h"
#include "generation.h"
#include "streamer_play.h"

#define TARGET  "/generations/e96b74bc-aba8-4837-bb43-237fd687d18b/stream"
#define TIMEOUT 60

static const char progress[] = "StreamingProgressEvent";
static const char idle_notice[] = "event: idle-timeout\ndata: {\"seconds\": 0.06}\n\n";

/* An event of the stream is stored; the data is its number. */
static void
store(Subscriber *sub, int64_t seq, const char *type, bool terminal)
{
	Stream *stream = sub->places[0].stream;
	char data[24];
	int len = sprintf(data, "%" PRId64, seq);

	stream_append(stream, frame_event(seq, type, strlen(type), data, (size_t) len, terminal));
	stream_wake(stream);
}

/* One that is not stored. */
static void
send_live(Subscriber *sub, const char *type, const char *data)
{
	Frame *frame = frame_event(0, type, strlen(type), data, strlen(data), false);

	stream_send_live(sub->places[0].stream, frame);
	frame_unref(frame);
}

/* Let so many milliseconds pass. */
static void
pass(int64_t ms)
{
	for (int64_t end = loop_now() + ms; loop_now() < end;)
		loop_turn(end - loop_now());
}

/* Turn until the client is woken, but not for long. */
static bool
is_woken(const Subscriber *sub)
{
	for (int64_t end = loop_now() + 5000; sub->state == SUBSCRIBER_IDLE && loop_now() < end;)
		loop_turn(end - loop_now());
	return sub->state != SUBSCRIBER_IDLE;
}

static void
test_names(void)
{
	Connection client = {0};
	Connection other = {0};
	Subscriber *sub;
	Subscriber *named;

	play_begin(1 << 20, 0);
	generations_init(0);
	sub = play_subscribe(&client, TARGET);
	named = play_subscribe(&other, "/events/e96b74bc-aba8-4837-bb43-237fd687d18b");
	store(sub, 1, progress, false);
	store(sub, 2, "StreamingProgressEvents", false);
	store(sub, 3, "progress", false);
	send_live(sub, "log_entry", "L");
	send_live(sub, progress, "P");
	is_sent(sub,
			"event: log_entry\ndata: L\n\ndata: P\n\nid: 1\ndata: 1\n\n"
			"id: 2\nevent: StreamingProgressEvents\ndata: 2\n\nid: 3\nevent: progress\ndata: 3\n\n",
			"progress has no name, all else does");
	is_sent(sub, "", "then it waits");
	is_sent(named,
			"event: log_entry\ndata: L\n\nevent: StreamingProgressEvent\ndata: P\n\n"
			"id: 1\nevent: StreamingProgressEvent\ndata: 1\n\n"
			"id: 2\nevent: StreamingProgressEvents\ndata: 2\n\nid: 3\nevent: progress\ndata: 3\n\n",
			"elsewhere the same frames have theirs");
	store(sub, 6, progress, true);
	is_sent(sub, "event: stream-gap\ndata: {\"from\":4,\"to\":5}\n\nid: 6\ndata: 6\n\n",
			"a gap is told by name");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "and the last event is the last");
	subscriber_free(sub);
	subscriber_free(named);

	sub = play_subscribe(&client, TARGET "?types=StreamingProgressEvent");
	store(sub, 1, "progress", false);
	store(sub, 2, progress, false);
	is_sent(sub, "id: 2\ndata: 2\n\n", "filters go by the name all the same");
	subscriber_free(sub);
	play_end();
}

/* However little room there is, the bytes are the same. */
static void
test_pieces(void)
{
	static const char want[] = "id: 1\ndata: 1\n\nid: 2\nevent: a\ndata: 2\n\nid: 3\ndata: 3\n\n";

	for (size_t room = 1; room <= sizeof(want); room++)
	{
		Connection client = {0};
		Subscriber *sub;
		char got[sizeof(want) + 200] = "";
		size_t len = 0;
		ssize_t filled;

		play_begin(1 << 20, 0);
		sub = request(&client, TARGET, NULL);
		subscriber_admit(sub, VERDICT_OPEN);
		subscriber_open(sub, frame_comment("hello"));
		subscriber_fill(sub, got, sizeof(got));
		store(sub, 1, progress, false);
		store(sub, 2, "a", false);
		store(sub, 3, progress, false);
		while ((filled = subscriber_fill(sub, got + len, room)) > 0)
			len += (size_t) filled;
		got[len] = '\0';
		is(got, want, "piece by piece");
		subscriber_free(sub);
		play_end();
	}
}

/* A connection that breaks between the two parts of a frame leaves nothing behind. */
static void
test_broken(void)
{
	Connection client = {0};
	Subscriber *sub;

	play_begin(1 << 20, 0);
	sub = play_subscribe(&client, TARGET);
	store(sub, 1, progress, false);
	is_number(subscriber_fill(sub, (char[6]){0}, 6), 6, "the id alone");
	subscriber_free(sub);
	is_number((long long) hub_bytes(), 0, "the rest is forgotten");
	play_end();
}

/* A client that is known to lack nothing. */
static Subscriber *
settle(Connection *conn, const char *target)
{
	Subscriber *sub = play_subscribe(conn, target);

	hub_resolve(sub->places[0].stream, -1);
	sub->places[0].stream->stale = false;
	return sub;
}

static void
test_idle(void)
{
	Connection client = {0};
	Connection other = {0};
	Subscriber *sub;
	Subscriber *named;
	int64_t began;

	play_begin(1 << 20, 0);
	generations_init(TIMEOUT);
	generations_trust(true);

	sub = settle(&client, TARGET);
	named = play_subscribe(&other, "/events/e96b74bc-aba8-4837-bb43-237fd687d18b");
	began = loop_now();
	ok(is_woken(sub) && loop_now() - began >= TIMEOUT - 10, "when its time is over it is woken");
	is_sent(sub, idle_notice, "and told why it ends");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "it does");
	ok(named->state == SUBSCRIBER_IDLE, "other streams do not");
	subscriber_free(sub);
	subscriber_free(named);

	sub = settle(&client, TARGET);
	pass(TIMEOUT * 2 / 3);
	store(sub, 1, "a", false);
	is_sent(sub, "id: 1\nevent: a\ndata: 1\n\n", "any event counts");
	is_sent(sub, "", "then it waits");
	began = loop_now();
	ok(is_woken(sub) && loop_now() - began >= TIMEOUT - 10, "from the last event on");
	store(sub, 2, progress, false);
	is_sent(sub, "id: 2\ndata: 2\n\n", "one that comes at the last moment");
	is_sent(sub, "", "puts it off");
	began = loop_now();
	ok(is_woken(sub) && loop_now() - began >= TIMEOUT - 10, "for as long again");
	is_sent(sub, idle_notice, "until nothing comes");
	subscriber_free(sub);

	sub = settle(&client, TARGET);
	pass(TIMEOUT * 2 / 3);
	began = loop_now();
	subscriber_probe(sub);
	is_sent(sub, ": \n\n", "a heartbeat");
	is_sent(sub, "", "is no event");
	ok(is_woken(sub) && loop_now() - began < TIMEOUT, "and puts nothing off");
	subscriber_end(sub, frame_comment("bye"));
	is_sent(sub, ": bye\n\n", "who is sent away is told that and no more");
	subscriber_free(sub);

	generations_init(0);
	sub = settle(&client, TARGET);
	pass(TIMEOUT * 2);
	ok(sub->state == SUBSCRIBER_IDLE, "0 is never");
	subscriber_free(sub);
	play_end();
}

/* What is of no stream; what the filter holds back. */
static void
test_counted(void)
{
	Connection client = {0};
	Subscriber *sub;
	Frame *global;
	int64_t began;

	play_begin(1 << 20, 0);
	generations_init(TIMEOUT);
	generations_trust(true);

	sub = settle(&client, TARGET);
	pass(TIMEOUT * 2 / 3);
	began = loop_now();
	global = frame_event(0, "log_entry", 9, "G", 1, false);
	subscriber_send_everywhere(global);
	frame_unref(global);
	is_sent(sub, "event: log_entry\ndata: G\n\n", "an event of no stream");
	is_sent(sub, "", "comes");
	ok(is_woken(sub) && loop_now() - began < TIMEOUT, "and puts nothing off");
	is_sent(sub, idle_notice, "for the generator may be dead");
	subscriber_free(sub);

	sub = settle(&client, TARGET "?types=StreamingProgressEvent");
	pass(TIMEOUT * 2 / 3);
	store(sub, 1, "a", false);
	is_sent(sub, "", "what the filter holds back");
	began = loop_now();
	ok(is_woken(sub) && loop_now() - began >= TIMEOUT, "counts all the same");
	is_sent(sub, idle_notice, "until nothing comes");
	subscriber_free(sub);
	play_end();
}

/* While nobody knows what happens, nobody says that nothing does. */
static void
test_unknown(void)
{
	Connection client = {0};
	Subscriber *sub;
	int64_t began;

	play_begin(1 << 20, 0);
	generations_init(TIMEOUT);
	sub = settle(&client, TARGET);
	pass(TIMEOUT * 3);
	ok(sub->state == SUBSCRIBER_IDLE, "while the database is away the time stands still");
	generations_trust(true);
	began = loop_now();
	ok(is_woken(sub) && loop_now() - began >= TIMEOUT - 10, "then it runs anew");
	is_sent(sub, idle_notice, "to its end");
	subscriber_free(sub);

	sub = settle(&client, TARGET);
	sub->places[0].stream->reading = true;
	pass(TIMEOUT * 3);
	ok(sub->state == SUBSCRIBER_IDLE, "nor does it run while the stream is being read");
	sub->places[0].stream->reading = false;
	ok(is_woken(sub), "but after");
	is_sent(sub, idle_notice, "it does");
	subscriber_free(sub);
	play_end();
}

int
main(void)
{
	loop_init();
	test_names();
	test_pieces();
	test_broken();
	test_idle();
	test_counted();
	test_unknown();
	alarms_close();
	loop_close();
	return done();
}

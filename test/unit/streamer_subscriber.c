/*
 * streamer_subscriber.c
 *		Every subscriber gets every row once, in order, whatever happens in between.
 *
 * The table, the reader and the connections are played by the test, in a random
 * order of events that is the same on every run: rows are appended and removed,
 * doorbells ring or do not, clients of every speed come, go and resume, and the
 * bounds of memory are small enough to be hit all the time.  What a client has
 * received must at each moment be rows and gaps that follow each other without
 * a hole, and in the end all there is.
 */
#include <inttypes.h>

#include "streamer_play.h"

#define ROWS_MOST  3000
#define ROWS_LATER 500
#define STEPS      60000

static int64_t rows_limit = ROWS_MOST;

/* A client of stream 1, which checks what has come. */
typedef struct Client
{
	Connection conn; /* first */
	int64_t next;    /* the row it must get next */
	bool faulty;
} Client;

static Client clients[CLIENTS];

/* Take one whole frame from what a client has received. */
static void
client_take(Connection *conn, const char *frame)
{
	Client *client = (Client *) conn;
	int64_t from;
	int64_t to;

	if (sscanf(frame, "event: stream-gap\ndata: {\"from\":%" SCNd64 ",\"to\":%" SCNd64 "}", &from,
			   &to) == 2)
	{
		client->faulty = client->faulty || from != client->next || !is_gap(1, from, to);
		client->next = to + 1;
	}
	else if (sscanf(frame, "id: %" SCNd64, &from) == 1)
	{
		client->faulty = client->faulty || from != client->next;
		client->next = from + 1;
	}
}

/* A subscriber after some position of stream 1; -1 is now. */
static Subscriber *
request_after(Connection *conn, int64_t after)
{
	char target[64];

	snprintf(target, sizeof(target), "/events/1?after=%" PRId64, after);
	return request(conn, after < 0 ? "/events/1?after=now" : target, NULL);
}

/* A client comes after some position; -1 is now. */
static void
client_come(Client *client, int64_t after)
{
	Subscriber *sub = request_after(&client->conn, after);
	Place *place = &sub->places[0];

	client->conn.sub = sub;
	if (!place->known)
	{
		subscriber_set_state(sub, SUBSCRIBER_ADMITTING);
		place_find(place, tables[1].last);
		if (tables[1].last > place->stream->tail)
			place->stream->stale = true;
	}
	subscriber_admit(sub, VERDICT_OPEN);
	subscriber_open(sub, frame_comment("hello"));
	client->next = place->pos + 1;
}

/* One random step. */
static void
play(void)
{
	Client *client = &clients[random() % CLIENTS];
	long dice = random() % 100;

	if (dice < 15)
		play_writer(1, rows_limit, random() % 4 > 0);
	else if (dice < 35)
		play_reader(1);
	else if (dice < 36 && random() % 20 == 0)
		play_retention(1);
	else if (dice < 38)
	{
		play_break(&client->conn);
		client_come(client, random() % 5 == 0 ? -1 : random() % (tables[1].last + 1));
	}
	else
		play_fill(&client->conn, (size_t) (1 + random() % (client - clients > 3 ? 1000 : 60)),
				  client_take);
}

/* Nothing happens any more; everybody catches up. */
static void
play_out(void)
{
	for (int i = 0; i < 30000; i++)
	{
		/* Now and then a burst, of which only the last row rings. */
		for (int k = 0; i < 20000 && i % 200 == 0 && k < 5; k++)
			play_writer(1, rows_limit, k == 4);
		play_reader(1);
		for (int j = 0; j < CLIENTS; j++)
			play_fill(&clients[j].conn, 1000, client_take);
	}
}

static void
test_delivery(void)
{
	bool faulty = false;
	bool complete = true;
	bool quiet = true;

	play_begin(WINDOW_BYTES, 0);
	srandom(42);
	for (int i = 0; i < STEPS && !faulty; i++)
	{
		play();
		for (int j = 0; j < CLIENTS; j++)
			faulty = faulty || clients[j].faulty;
	}
	ok(!faulty, "rows and gaps follow each other without a hole");
	ok(hub_bytes() <= WINDOW_BYTES + 3000, "windows keep their bound, but for one frame");
	is_number(tables[1].last, ROWS_MOST, "as many rows as planned were written");
	rows_limit += ROWS_LATER;
	play_out();
	for (int i = 0; i < CLIENTS; i++)
	{
		complete =
			complete && (clients[i].conn.sub == NULL || clients[i].next == tables[1].last + 1);
		quiet = quiet && (clients[i].conn.sub == NULL || clients[i].conn.suspended);
	}
	ok(complete, "in the end everybody has all there is");
	ok(quiet, "and is asked for nothing more");
	for (int i = 0; i < CLIENTS; i++)
		play_break(&clients[i].conn);
	is_number((long long) subscriber_count(), 0, "everybody has left");
	is_number((long long) hub_bytes(), 0, "and left nothing behind");
	play_end();
}

static void
test_order(void)
{
	Connection client = {0};
	Subscriber *sub;
	Frame *live = frame_event(0, "typing", 6, "{}", 2, false);
	Stream *stream;
	char out[8000];

	play_begin(WINDOW_BYTES, 0);

	sub = play_subscribe(&client, "/events/1");
	stream = sub->places[0].stream;
	resumes = 0;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	stream_wake(stream);
	stream_wake(stream);
	is_number(resumes, 1, "it is resumed once");
	stream_send_live(stream, live);
	is_sent(sub, "event: typing\ndata: {}\n\nid: 1\nevent: a\ndata: 1\n\n",
			"what is not stored goes first");
	is_sent(sub, "", "then it waits");
	stream_append(stream, frame_event(2, "execution-complete", 18, "2", 1, true));
	stream_append(stream, frame_event(3, "a", 1, "3", 1, false));
	stream_wake(stream);
	is_sent(sub, "id: 2\nevent: execution-complete\ndata: 2\n\n", "the terminal event is the last");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "after it the response ends");
	subscriber_free(sub);

	sub = play_subscribe(&client, "/events/1?types=a,b");
	stream = sub->places[0].stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	stream_append(stream, frame_event(2, "c", 1, "2", 1, false));
	stream_append(stream, frame_event(3, "b", 1, "3", 1, false));
	stream_append(stream, frame_event(4, "c", 1, "4", 1, true));
	stream_wake(stream);
	stream_send_live(stream, live);
	is_sent(sub, "id: 1\nevent: a\ndata: 1\n\nid: 3\nevent: b\ndata: 3\n\nid: 4\n\n",
			"a filter lets pass what it names, and the id of the end");
	subscriber_free(sub);

	sub = play_subscribe(&client, "/events/1");
	stream = sub->places[0].stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	stream_wake(stream);
	is_number(subscriber_fill(sub, (char[4]){0}, 4), 4, "part of a frame");
	subscriber_end(sub, frame_retry(9, "bye"));
	is_sent(sub, "1\nevent: a\ndata: 1\n\nretry: 9\n: bye\n\n",
			"a farewell does not cut a frame that has begun");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "and then the response ends");
	subscriber_free(sub);

	sub = play_subscribe(&client, "/events/1");
	subscriber_probe(sub);
	subscriber_probe(sub);
	is_sent(sub, ": \n\n", "whoever is probed, twice or not, is sent a heartbeat");
	is_sent(sub, "", "once");
	subscriber_free(sub);

	sub = play_subscribe(&client, "/events/1");
	for (int i = 0; i < 100; i++)
	{
		char data[8];
		Frame *frame = frame_event(0, "", 0, data, (size_t) sprintf(data, "%02d", i), false);

		stream_send_live(sub->places[0].stream, frame);
		frame_unref(frame);
	}
	is_number(subscriber_fill(sub, out, sizeof(out)), 64 * (long long) strlen("data: 36\n\n"),
			  "of what is not stored a slow client gets a few");
	ok(strncmp(out, "data: 36\n\ndata: 37\n\n", 20) == 0, "the latest");
	subscriber_hang_up(sub);
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_ABORT, "a hang-up aborts");
	subscriber_free(sub);

	frame_unref(live);
	play_end();
}

/* A subscriber after some position of a stream whose last row is known to be this. */
static Subscriber *
place(Connection *client, int64_t after, int64_t last)
{
	Subscriber *sub = request_after(client, after);

	place_find(&sub->places[0], last);
	return sub;
}

/* Where subscribers begin, and what that does to the window. */
static void
test_places(void)
{
	Connection client[4] = {0};
	Subscriber *sub[4];
	Stream *stream;

	play_begin(1 << 20, 0);
	sub[0] = place(&client[0], 700, 5000);
	stream = sub[0]->places[0].stream;
	ok(sub[0]->places[0].pos == 700 && stream->tail == 700,
	   "the window begins with the first to come");
	sub[1] = place(&client[1], 1200, 5000);
	ok(sub[1]->places[0].pos == 1200 && stream->tail == 700,
	   "it does not jump for one a little ahead");
	sub[2] = place(&client[2], -1, 5000);
	ok(sub[2]->places[0].pos == 5000 && stream->tail == 5000, "it does for one far ahead");
	sub[3] = place(&client[3], 9000, 5000);
	ok(sub[3]->places[0].pos == 9000 && sub[3]->places[0].read == 5000 && stream->tail == 5000,
	   "who names a position beyond the end waits there, and takes nobody along");
	for (int i = 0; i < 4; i++)
		subscriber_free(sub[i]);
	play_end();
}

/* A long history is read no faster than its fastest reader takes it. */
static void
test_backpressure(void)
{
	Connection client = {0};
	Subscriber *sub;
	Stream *stream;
	char data[10000];
	char out[10000];

	play_begin(1 << 20, 0);
	sub = play_subscribe(&client, "/events/1");
	stream = sub->places[0].stream;
	memset(data, 'x', sizeof(data));
	ok(stream_is_wanted(stream), "who has everything wants more");
	for (int i = 1; i <= 10; i++)
		stream_append(stream, frame_event(i, "a", 1, data, sizeof(data), false));
	stream_wake(stream);
	stream->stale = true;
	ok(!stream_is_wanted(stream), "who has much to take does not");
	tables[1].tail_wanted = false;
	subscriber_fill(sub, out, sizeof(out));
	ok(!tables[1].tail_wanted, "nor after the first of it");
	for (int i = 0; i < 8; i++)
		subscriber_fill(sub, out, sizeof(out));
	ok(tables[1].tail_wanted, "but in time before the end");
	subscriber_free(sub);
	play_end();
}

/* A stream that was left keeps its window for a while, unless memory is short. */
static void
test_linger(void)
{
	Connection client = {0};
	Subscriber *sub;
	Stream *stream;
	StreamKey other = {.numeric = true, .id = 2, .text = "2"};

	play_begin(WINDOW_BYTES, 50);

	sub = play_subscribe(&client, "/events/1");
	subscriber_free(sub);
	ok(hub_find(1) == NULL, "a stream without a window does not linger");

	sub = play_subscribe(&client, "/events/1");
	stream = sub->places[0].stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	subscriber_free(sub);
	ok(hub_find(1) == stream && hub_bytes() > 0, "one with a window does");
	is_number((long long) hub_count(), 0, "but is not watched");
	sub = place(&client, 0, 1);
	ok(sub->places[0].stream == stream && stream_after(stream, 0) != NULL,
	   "who returns finds the window");
	for (int64_t end = loop_now() + 100; loop_now() < end;)
		loop_turn(10);
	ok(hub_find(1) == stream, "being watched again, it stays");

	subscriber_free(sub);
	for (int64_t end = loop_now() + 5000; hub_find(1) != NULL && loop_now() < end;)
		loop_turn(10);
	ok(hub_find(1) == NULL, "its time is limited");
	is_number((long long) hub_bytes(), 0, "and its memory is given back");

	sub = play_subscribe(&client, "/events/1");
	stream_append(sub->places[0].stream, row_frame(1, 50));
	subscriber_free(sub);
	stream = hub_watch(&other);
	stream_append(stream, row_frame(2, 97));
	ok(hub_find(1) == NULL && hub_bytes() > WINDOW_BYTES, "it goes first when memory is short");
	hub_leave(stream);
	hub_forget_lingering();
	is_number((long long) hub_bytes(), 0, "all are forgotten at once if need be");
	play_end();
}

int
main(void)
{
	loop_init();
	test_order();
	test_backpressure();
	test_places();
	test_linger();
	test_delivery();
	loop_close();
	return done();
}

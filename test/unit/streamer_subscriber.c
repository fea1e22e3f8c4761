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
#include <stdint.h>
#include <stdlib.h>

#include "loop.h"
#include "page.h"
#include "streamer_tap.h"
#include "subscriber.h"

#define ROWS_MOST    3000
#define ROWS_LATER   500
#define CLIENTS      12
#define STEPS        60000
#define WINDOW_BYTES 2000
#define PAGES_BYTES  3000
#define READ_ROWS    7

/* One row of the table, and whether retention has removed it. */
static bool removed[ROWS_MOST + ROWS_LATER + 2];
static int64_t last_row;
static int64_t rows_limit = ROWS_MOST;

/* A connection: what it has received, checked as it comes. */
typedef struct Client
{
	Subscriber *sub;
	bool suspended;
	int64_t next; /* the row it must get next */
	char text[4096];
	size_t len;
	bool faulty;
} Client;

static Client clients[CLIENTS];
static Stream *tail_wanted;
static Subscriber *page_wanted[CLIENTS];
static int resumes;

static void
on_resume(Subscriber *sub)
{
	((Client *) sub->owner)->suspended = false;
	resumes++;
}

static void
on_want_tail(Stream *stream)
{
	tail_wanted = stream;
}

static void
on_want_page(Subscriber *sub)
{
	sub->page_state = PAGE_QUEUED;
	for (int i = 0; i < CLIENTS; i++)
		if (page_wanted[i] == NULL)
		{
			page_wanted[i] = sub;
			return;
		}
}

static void
on_forget(Subscriber *sub)
{
	for (int i = 0; i < CLIENTS; i++)
		if (page_wanted[i] == sub)
			page_wanted[i] = NULL;
}

static void
on_forget_stream(Stream *stream)
{
	if (tail_wanted == stream)
		tail_wanted = NULL;
}

static const SubscriberHooks hooks = {on_resume, on_want_tail, on_want_page, on_forget,
									  on_forget_stream};

/* The frame of a row; sizes vary, and some are larger than a window. */
static Frame *
row_frame(int64_t seq)
{
	char data[3000];
	size_t len = seq % 97 == 0 ? 2500 : (size_t) (seq * 37 % 200);

	memset(data, 'x', len);
	return frame_event(seq, "t", 1, data, len, false);
}

/* Read at most READ_ROWS rows after a position, for a subscriber or for the tail. */
static bool
read_rows(Stream *stream, Subscriber *sub, int64_t after)
{
	int rows = 0;

	for (int64_t seq = after + 1; seq <= last_row && rows < READ_ROWS; seq++)
	{
		if (removed[seq])
			continue;
		rows++;
		if (sub != NULL)
			page_add(sub, row_frame(seq));
		else
			stream_append(stream, row_frame(seq));
	}
	return rows < READ_ROWS;
}

/* The reader's turn. */
static void
play_reader(void)
{
	Stream *stream = tail_wanted;
	Subscriber *reading[CLIENTS];
	int64_t after[CLIENTS];

	tail_wanted = NULL;
	if (stream != NULL)
	{
		stream->stale = false;
		stream->stale = !read_rows(stream, NULL, stream->tail);
		stream_wake(stream);
		if (stream->stale && stream_is_wanted(stream))
			on_want_tail(stream);
	}
	/* One query reads all pages: each after the position it had when that was sent. */
	for (int i = 0; i < CLIENTS; i++)
	{
		reading[i] = page_wanted[i];
		page_wanted[i] = NULL;
		if (reading[i] == NULL)
			continue;
		reading[i]->page_state = PAGE_READING;
		after[i] = reading[i]->read;
	}
	for (int i = 0; i < CLIENTS; i++)
		if (reading[i] != NULL)
			page_end(reading[i], read_rows(reading[i]->stream, reading[i], after[i]));
}

/* A row is committed, and the doorbell perhaps rings. */
static void
play_writer(bool ring)
{
	Stream *stream = hub_find(1);

	if (last_row < rows_limit)
		last_row++;
	if (stream == NULL || !ring)
		return;
	stream->stale = true;
	if (stream_is_wanted(stream))
		on_want_tail(stream);
}

/* Somebody removes most rows, but never the last. */
static void
play_retention(void)
{
	for (int64_t seq = 1; seq < last_row; seq++)
		removed[seq] = removed[seq] || random() % 3 > 0;
}

/* Take one whole frame from what a client has received. */
static void
client_take(Client *client, const char *frame)
{
	int64_t from;
	int64_t to;

	if (sscanf(frame, "event: stream-gap\ndata: {\"from\":%" SCNd64 ",\"to\":%" SCNd64 "}", &from,
			   &to) == 2)
	{
		client->faulty = client->faulty || from != client->next || to < from;
		for (int64_t seq = from; seq <= to && seq <= last_row; seq++)
			client->faulty = client->faulty || !removed[seq];
		client->next = to + 1;
	}
	else if (sscanf(frame, "id: %" SCNd64, &from) == 1)
	{
		client->faulty = client->faulty || from != client->next;
		client->next = from + 1;
	}
}

/* Let a client have room for so many bytes. */
static void
play_client(Client *client, size_t room)
{
	char *end;
	ssize_t filled;

	if (client->sub == NULL || client->suspended)
		return;
	filled = subscriber_fill(client->sub, client->text + client->len, room);
	if (filled == FILL_WAIT)
		client->suspended = true;
	if (filled <= 0)
		return;
	client->len += (size_t) filled;
	client->text[client->len] = '\0';
	while ((end = strstr(client->text, "\n\n")) != NULL)
	{
		*end = '\0';
		client_take(client, client->text);
		client->len -= (size_t) (end + 2 - client->text);
		memmove(client->text, end + 2, client->len + 1);
	}
}

static void
client_leave(Client *client)
{
	if (client->sub != NULL)
		subscriber_free(client->sub);
	client->sub = NULL;
}

/* A client comes after some position; -1 is now. */
static void
client_come(Client *client, int64_t after)
{
	StreamKey key = {.numeric = true, .id = 1, .text = "1"};
	Cursor cursor = {.given = true, .now = after < 0, .seq = after};
	TypeFilter filter = {0};
	bool faulty = client->faulty;

	*client = (Client){.faulty = faulty};
	client->sub = subscriber_new(1, client, &key, &cursor, &filter);
	if (!client->sub->placed)
	{
		subscriber_set_state(client->sub, SUBSCRIBER_ADMITTING);
		subscriber_place(client->sub, last_row);
		if (last_row > client->sub->stream->tail)
			client->sub->stream->stale = true;
	}
	subscriber_admit(client->sub, VERDICT_OPEN);
	subscriber_open(client->sub, frame_comment("hello"));
	client->next = client->sub->pos + 1;
}

/* One random step. */
static void
play(void)
{
	Client *client = &clients[random() % CLIENTS];
	long dice = random() % 100;

	if (dice < 15)
		play_writer(random() % 4 > 0);
	else if (dice < 35)
		play_reader();
	else if (dice < 36 && random() % 20 == 0)
		play_retention();
	else if (dice < 38)
	{
		client_leave(client);
		client_come(client, random() % 5 == 0 ? -1 : random() % (last_row + 1));
	}
	else
		play_client(client, (size_t) (1 + random() % (client - clients > 3 ? 1000 : 60)));
}

/* Nothing happens any more; everybody catches up. */
static void
play_out(void)
{
	for (int i = 0; i < 30000; i++)
	{
		/* Now and then a burst, of which only the last row rings. */
		for (int k = 0; i < 20000 && i % 200 == 0 && k < 5; k++)
			play_writer(k == 4);
		play_reader();
		for (int j = 0; j < CLIENTS; j++)
			play_client(&clients[j], 1000);
	}
}

static void
test_delivery(void)
{
	bool faulty = false;
	bool complete = true;
	bool quiet = true;

	hub_init(WINDOW_BYTES, WINDOW_BYTES, 0);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);
	srandom(42);
	for (int i = 0; i < STEPS && !faulty; i++)
	{
		play();
		for (int j = 0; j < CLIENTS; j++)
			faulty = faulty || clients[j].faulty;
	}
	ok(!faulty, "rows and gaps follow each other without a hole");
	ok(hub_bytes() <= WINDOW_BYTES + 3000, "windows keep their bound, but for one frame");
	is_number(last_row, ROWS_MOST, "as many rows as planned were written");
	rows_limit += ROWS_LATER;
	play_out();
	for (int i = 0; i < CLIENTS; i++)
	{
		complete = complete && (clients[i].sub == NULL || clients[i].next == last_row + 1);
		quiet = quiet && (clients[i].sub == NULL || clients[i].suspended);
	}
	ok(complete, "in the end everybody has all there is");
	ok(quiet, "and is asked for nothing more");
	for (int i = 0; i < CLIENTS; i++)
		client_leave(&clients[i]);
	is_number((long long) subscriber_count(), 0, "everybody has left");
	is_number((long long) hub_bytes(), 0, "and left nothing behind");
	subscriber_close();
	hub_close();
}

/* What one subscriber is sent, in one go. */
static void
is_sent(Subscriber *sub, const char *want, const char *name)
{
	char out[8192];
	ssize_t filled = subscriber_fill(sub, out, sizeof(out) - 1);

	out[filled > 0 ? filled : 0] = '\0';
	is(out, want, name);
}

/* A subscriber of stream 1 from its beginning, whose response has begun. */
static Subscriber *
subscribe(Client *client, const char *query)
{
	StreamKey key = {.numeric = true, .id = 1, .text = "1"};
	Cursor cursor;
	TypeFilter filter;
	Subscriber *sub;

	*client = (Client){0};
	query_parse(query, &cursor, &filter);
	sub = subscriber_new(1, client, &key, &cursor, &filter);
	if (!sub->placed)
		subscriber_place(sub, 0);
	subscriber_admit(sub, VERDICT_OPEN);
	subscriber_open(sub, frame_comment("hello"));
	is_sent(sub, ": hello\n\n", "the first frame is there at once");
	is_sent(sub, "", "then it waits");
	return sub;
}

static void
test_order(void)
{
	Client client;
	Subscriber *sub;
	Frame *live = frame_event(0, "typing", 6, "{}", 2, false);
	Stream *stream;
	char out[8000];

	hub_init(WINDOW_BYTES, WINDOW_BYTES, 0);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);

	sub = subscribe(&client, NULL);
	stream = sub->stream;
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

	sub = subscribe(&client, "types=a,b");
	stream = sub->stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	stream_append(stream, frame_event(2, "c", 1, "2", 1, false));
	stream_append(stream, frame_event(3, "b", 1, "3", 1, false));
	stream_append(stream, frame_event(4, "c", 1, "4", 1, true));
	stream_wake(stream);
	stream_send_live(stream, live);
	is_sent(sub, "id: 1\nevent: a\ndata: 1\n\nid: 3\nevent: b\ndata: 3\n\nid: 4\n\n",
			"a filter lets pass what it names, and the id of the end");
	subscriber_free(sub);

	sub = subscribe(&client, NULL);
	stream = sub->stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	stream_wake(stream);
	is_number(subscriber_fill(sub, (char[4]){0}, 4), 4, "part of a frame");
	subscriber_end(sub, frame_retry(9, "bye"));
	is_sent(sub, "1\nevent: a\ndata: 1\n\nretry: 9\n: bye\n\n",
			"a farewell does not cut a frame that has begun");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "and then the response ends");
	subscriber_free(sub);

	sub = subscribe(&client, NULL);
	subscriber_probe(sub);
	subscriber_probe(sub);
	is_sent(sub, ": \n\n", "whoever is probed, twice or not, is sent a heartbeat");
	is_sent(sub, "", "once");
	subscriber_free(sub);

	sub = subscribe(&client, NULL);
	for (int i = 0; i < 100; i++)
	{
		char data[8];
		Frame *frame = frame_event(0, "", 0, data, (size_t) sprintf(data, "%02d", i), false);

		stream_send_live(sub->stream, frame);
		frame_unref(frame);
	}
	is_number(subscriber_fill(sub, out, sizeof(out)), 64 * (long long) strlen("data: 36\n\n"),
			  "of what is not stored a slow client gets a few");
	ok(strncmp(out, "data: 36\n\ndata: 37\n\n", 20) == 0, "the latest");
	subscriber_hang_up(sub);
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_ABORT, "a hang-up aborts");
	subscriber_free(sub);

	frame_unref(live);
	subscriber_close();
	hub_close();
}

/* A subscriber after some position of a stream whose last row is known to be this. */
static Subscriber *
place(Client *client, int64_t after, int64_t last)
{
	StreamKey key = {.numeric = true, .id = 1, .text = "1"};
	Cursor cursor = {.given = true, .now = after < 0, .seq = after};
	TypeFilter filter = {0};
	Subscriber *sub = subscriber_new(1, client, &key, &cursor, &filter);

	subscriber_place(sub, last);
	return sub;
}

/* Where subscribers begin, and what that does to the window. */
static void
test_places(void)
{
	Client client[4] = {0};
	Subscriber *sub[4];
	Stream *stream;

	hub_init(1 << 20, 1 << 20, 0);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);
	sub[0] = place(&client[0], 700, 5000);
	stream = sub[0]->stream;
	ok(sub[0]->pos == 700 && stream->tail == 700, "the window begins with the first to come");
	sub[1] = place(&client[1], 1200, 5000);
	ok(sub[1]->pos == 1200 && stream->tail == 700, "it does not jump for one a little ahead");
	sub[2] = place(&client[2], -1, 5000);
	ok(sub[2]->pos == 5000 && stream->tail == 5000, "it does for one far ahead");
	sub[3] = place(&client[3], 9000, 5000);
	ok(sub[3]->pos == 9000 && sub[3]->read == 5000 && stream->tail == 5000,
	   "who names a position beyond the end waits there, and takes nobody along");
	for (int i = 0; i < 4; i++)
		subscriber_free(sub[i]);
	subscriber_close();
	hub_close();
}

/* A long history is read no faster than its fastest reader takes it. */
static void
test_backpressure(void)
{
	Client client;
	Subscriber *sub;
	Stream *stream;
	char data[10000];
	char out[10000];

	hub_init(1 << 20, 1 << 20, 0);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);
	sub = subscribe(&client, NULL);
	stream = sub->stream;
	memset(data, 'x', sizeof(data));
	ok(stream_is_wanted(stream), "who has everything wants more");
	for (int i = 1; i <= 10; i++)
		stream_append(stream, frame_event(i, "a", 1, data, sizeof(data), false));
	stream_wake(stream);
	stream->stale = true;
	ok(!stream_is_wanted(stream), "who has much to take does not");
	tail_wanted = NULL;
	subscriber_fill(sub, out, sizeof(out));
	ok(tail_wanted == NULL, "nor after the first of it");
	for (int i = 0; i < 8; i++)
		subscriber_fill(sub, out, sizeof(out));
	ok(tail_wanted == stream, "but in time before the end");
	subscriber_free(sub);
	subscriber_close();
	hub_close();
}

/* A stream that was left keeps its window for a while, unless memory is short. */
static void
test_linger(void)
{
	Client client;
	Subscriber *sub;
	Stream *stream;
	StreamKey other = {.numeric = true, .id = 2, .text = "2"};

	hub_init(WINDOW_BYTES, WINDOW_BYTES, 50);
	subscriber_init(&hooks, 15000);
	page_init(PAGES_BYTES);

	sub = subscribe(&client, NULL);
	subscriber_free(sub);
	ok(hub_find(1) == NULL, "a stream without a window does not linger");

	sub = subscribe(&client, NULL);
	stream = sub->stream;
	stream_append(stream, frame_event(1, "a", 1, "1", 1, false));
	subscriber_free(sub);
	ok(hub_find(1) == stream && hub_bytes() > 0, "one with a window does");
	is_number((long long) hub_count(), 0, "but is not watched");
	sub = place(&client, 0, 1);
	ok(sub->stream == stream && stream_after(stream, 0) != NULL, "who returns finds the window");
	for (int64_t end = loop_now() + 100; loop_now() < end;)
		loop_turn(10);
	ok(hub_find(1) == stream, "being watched again, it stays");

	subscriber_free(sub);
	for (int64_t end = loop_now() + 5000; hub_find(1) != NULL && loop_now() < end;)
		loop_turn(10);
	ok(hub_find(1) == NULL, "its time is limited");
	is_number((long long) hub_bytes(), 0, "and its memory is given back");

	sub = subscribe(&client, NULL);
	stream_append(sub->stream, row_frame(50));
	subscriber_free(sub);
	stream = hub_watch(&other);
	stream_append(stream, row_frame(97));
	ok(hub_find(1) == NULL && hub_bytes() > WINDOW_BYTES, "it goes first when memory is short");
	hub_leave(stream);
	hub_forget_lingering();
	is_number((long long) hub_bytes(), 0, "all are forgotten at once if need be");
	subscriber_close();
	hub_close();
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

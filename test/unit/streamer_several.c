/*
 * streamer_several.c
 *		Subscribers of several streams get every row of each once, in order.
 *
 * As in streamer_subscriber.c the table, the reader and the connections are played
 * by the test, in a random order that is the same on every run.  Here clients leave
 * at any moment, in the middle of a frame too, and return with the last id they have
 * got; streams close one by one, and live events come in between.
 */
#include <inttypes.h>

#include "streamer_play.h"

#define ROWS_MOST 800
#define STEPS     60000

/* A client, which checks what has come. */
typedef struct Client
{
	Connection conn; /* first */
	const char *target;
	int streams[STREAMS + 1];  /* of each parameter; ends with 0 */
	bool blind;                /* it came before the places of its streams were known */
	bool finished;             /* it was told that nothing follows */
	char id[128];              /* the last it has got */
	int64_t next[STREAMS + 1]; /* the row it must get next */
	const char *fault;
} Client;

static Client clients[] = {
	{.target = "/events?stream=1&stream=2&stream=3&stream=4", .streams = {1, 2, 3, 4}},
	{.target = "/events?stream=4&stream=2&stream=4&stream=1", .streams = {4, 2, 4, 1}},
	{.target = "/events?stream=3&stream=1", .streams = {3, 1}},
	{.target = "/events?stream=2", .streams = {2}},
	{.target = "/events?stream=1&stream=2&stream=3&stream=04", .streams = {1, 2, 3, 4}},
	{.target = "/events?stream=2&stream=3", .streams = {2, 3}},
	{.target = "/events?stream=4&stream=3&stream=2&stream=1", .streams = {4, 3, 2, 1}},
	{.target = "/events?stream=4&stream=1", .streams = {4, 1}},
	{.target = "/events?stream=1&stream=1&stream=1&stream=2", .streams = {1, 1, 1, 2}},
	{.target = "/events?stream=2&stream=1&stream=4", .streams = {2, 1, 4}},
};

#define CLIENT_NUM ((int) (sizeof(clients) / sizeof(clients[0])))

static void
client_check(Client *client, bool holds, const char *what)
{
	if (!holds && client->fault == NULL)
		client->fault = what;
}

/* A row is committed; the last one closes the stream. */
static void
play_row(int id, bool rings)
{
	tables[id].closed = tables[id].last >= ROWS_MOST - 1;
	play_writer(id, ROWS_MOST, rings);
}

/* An event that is not stored comes to a stream. */
static void
play_live(int id)
{
	Stream *stream = hub_find(id);
	Frame *frame = frame_event(0, "live", 4, "{}", 2, false);

	if (stream != NULL)
		stream_send_live(stream, frame);
	frame_unref(frame);
}

/* The look has come that finds the places which are not known. */
static void
play_look(Client *client)
{
	for (int i = 0; client->conn.sub != NULL && i < client->conn.sub->count; i++)
	{
		Place *place = &client->conn.sub->places[i];
		const Table *table = &tables[place->stream->id];

		if (place->known)
			continue;
		place_find(place, table->last);
		if (table->closed && place->pos >= table->last)
			subscriber_end_place(place);
		if (table->last > place->stream->tail)
			ring((int) place->stream->id);
	}
}

/* An event of the stream has come, with its number. */
static void
client_take_event(Client *client, int id, int64_t number, const char *frame)
{
	int64_t from = 0;
	int64_t to = 0;
	const char *event = strstr(frame, "event: ") + strlen("event: ");

	if (strncmp(event, "stream-gap", 10) == 0)
	{
		sscanf(event, "stream-gap\ndata: {\"from\":%" SCNd64 ",\"to\":%" SCNd64 "}", &from, &to);
		client_check(client, from == client->next[id] && to == number && is_gap(id, from, to),
					 "a gap");
		client->next[id] = to + 1;
	}
	else if (strncmp(event, "stream-closed", 13) == 0)
		client_check(client,
					 tables[id].closed && client->next[id] == tables[id].last + 1 &&
						 number == tables[id].last,
					 "closed too early");
	else if (strncmp(event, "live", 4) == 0)
		client_check(client, number == client->next[id] - 1, "the position of a live event");
	else
	{
		client_check(client, number == client->next[id], "a row out of its turn");
		client->next[id] = number + 1;
	}
}

/* Take one whole frame from what a client has received. */
static void
client_take(Connection *conn, const char *frame)
{
	Client *client = (Client *) conn;
	int index;
	int64_t number;

	if (*frame == ':')
		return;
	if (sscanf(frame, "id: %d:%" SCNd64 ":", &index, &number) == 2)
	{
		snprintf(client->id, sizeof(client->id), "%.*s", (int) strcspn(frame + 4, "\n"), frame + 4);
		client_take_event(client, client->streams[index], number, frame);
	}
	else
		client_check(client, client->blind && strncmp(frame, "event: live", 11) == 0,
					 "an event without an id");
}

/* Let a client come back; look: the database answers at once. */
static void
client_come(Client *client, bool look)
{
	Subscriber *sub = request(&client->conn, client->target, client->id);

	client->conn.sub = sub;
	client->blind = !look;
	if (look)
		play_look(client);
	if (look && subscriber_is_over(sub))
	{
		client->finished = true;
		play_break(&client->conn);
		return;
	}
	subscriber_admit(sub, VERDICT_OPEN);
	subscriber_open(sub, frame_comment("hello"));
}

/* Let a client have room for so many bytes; if the response ends, it comes back. */
static void
play_client(Client *client, size_t room)
{
	if (play_fill(&client->conn, room, client_take) != FILL_END)
		return;
	client_check(client, client->conn.len == 0, "an end within a frame");
	play_break(&client->conn);
	client_come(client, true);
	client_check(client, client->finished, "an end before the end");
}

/* One random step. */
static void
play(void)
{
	Client *client = &clients[random() % CLIENT_NUM];
	int id = (int) (1 + random() % STREAMS);
	long dice = random() % 100;

	if (dice < 10)
		play_row(random() % 10 < 7 ? id : 1, random() % 4 > 0);
	else if (dice < 35)
		play_reader(id);
	else if (dice < 36 && random() % 20 == 0)
		play_retention(id);
	else if (dice < 38)
		play_live(id);
	else if (dice < 40)
		play_look(client);
	else if (dice < 42 && !client->finished)
	{
		play_break(&client->conn);
		client_come(client, random() % 4 > 0);
	}
	else
		play_client(client, (size_t) (1 + random() % (client - clients > 3 ? 1000 : 60)));
}

/* Every stream comes to its end, and everybody catches up. */
static void
play_out(void)
{
	for (int i = 0; i < 60000; i++)
	{
		int id = 1 + i % STREAMS;

		play_row(id, true);
		ring(id);
		play_reader(id);
		for (int j = 0; j < CLIENT_NUM; j++)
		{
			play_look(&clients[j]);
			play_client(&clients[j], 1000);
		}
	}
}

static const char *
first_fault(void)
{
	for (int i = 0; i < CLIENT_NUM; i++)
		if (clients[i].fault != NULL)
			return clients[i].fault;
	return "none";
}

static void
test_delivery(void)
{
	bool complete = true;
	bool finished = true;

	play_begin(WINDOW_BYTES, 0);
	srandom(42);
	for (int i = 0; i < CLIENT_NUM; i++)
	{
		for (int id = 1; id <= STREAMS; id++)
			clients[i].next[id] = 1;
		client_come(&clients[i], true);
	}
	for (int i = 0; i < STEPS; i++)
		play();
	is(first_fault(), "none", "rows and gaps of each stream follow each other without a hole");
	play_out();
	is(first_fault(), "none", "to the end");
	for (int i = 0; i < CLIENT_NUM; i++)
	{
		for (int k = 0; clients[i].streams[k] != 0; k++)
			complete = complete && clients[i].next[clients[i].streams[k]] == ROWS_MOST + 1;
		finished = finished && clients[i].finished;
	}
	ok(complete, "in the end everybody has all there is");
	ok(finished, "and has been told that nothing follows");
	for (int i = 0; i < CLIENT_NUM; i++)
		play_break(&clients[i].conn);
	is_number((long long) subscriber_count(), 0, "everybody has left");
	is_number((long long) hub_bytes(), 0, "and left nothing behind");
	is_number((long long) page_bytes(), 0, "no page either");
	play_end();
}

/* A subscriber whose response has begun. */
static Subscriber *
subscribe(Connection *conn, const char *target)
{
	Subscriber *sub = request(conn, target, NULL);

	is_opened(sub);
	return sub;
}

/* Append a row to a stream that is watched. */
static void
append(int id, int64_t seq, const char *type, bool terminal)
{
	stream_append(hub_find(id), frame_event(seq, type, strlen(type), "1", 1, terminal));
	stream_wake(hub_find(id));
}

static void
test_order(void)
{
	Connection client = {0};
	Subscriber *sub;
	Frame *live = frame_event(0, "typing", 6, "{}", 2, false);
	Frame *comment = frame_comment("hm");

	play_begin(1 << 20, 0);

	sub = subscribe(&client, "/events?stream=1&stream=2");
	for (int seq = 1; seq <= 3; seq++)
		append(1, seq, "a", false);
	append(2, 1, "b", false);
	is_sent(sub,
			"id: 0:1:b-rA\nevent: a\ndata: 1\n\nid: 1:1:b-rB\nevent: b\ndata: 1\n\n"
			"id: 0:2:b-rB\nevent: a\ndata: 1\n\nid: 0:3:b-rB\nevent: a\ndata: 1\n\n",
			"streams take turns, and each id has both positions");
	is_sent(sub, "", "then it waits");
	stream_send_live(hub_find(2), live);
	subscriber_send_everywhere(live);
	subscriber_send_everywhere(comment);
	is_sent(sub, "id: 1:1:b-rD\nevent: typing\ndata: {}\n\nevent: typing\ndata: {}\n\n: hm\n\n",
			"what is not stored has an id if it is of a stream, and comes once if it is of all");
	append(2, 5, "b", true);
	is_sent(sub,
			"id: 1:4:b-rD\nevent: stream-gap\ndata: {\"from\":2,\"to\":4}\n\n"
			"id: 1:5:b-rD\nevent: b\ndata: 1\n\n"
			"id: 1:5:b-rD\nevent: stream-closed\ndata: {\"last\":5}\n\n",
			"a gap is told, and so is the end of one stream");
	append(1, 4, "a", true);
	is_sent(sub,
			"id: 0:4:b-rF\nevent: a\ndata: 1\n\n"
			"id: 0:4:b-rF\nevent: stream-closed\ndata: {\"last\":4}\n\n",
			"the other one goes on to its end");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "after both the response ends");
	subscriber_free(sub);

	sub = subscribe(&client, "/events?stream=1&stream=2&types=b");
	append(1, 1, "a", true);
	stream_send_live(hub_find(1), live);
	ok(sub->state == SUBSCRIBER_IDLE, "what the filter holds back wakes nobody");
	place_find(&sub->places[0], 1);
	is_sent(sub, "", "while not all places are known, no row is sent");
	place_find(&sub->places[1], 0);
	is_sent(sub, "id: 0:1:b-rA\nevent: stream-closed\ndata: {\"last\":1}\n\n",
			"the end is told although the filter holds the last event back");
	append(2, 1, "a", false);
	append(2, 2, "b", false);
	is_sent(sub, "id: 1:2:b-rB\nevent: b\ndata: 1\n\n", "what is held back moves the position");
	subscriber_end_place(&sub->places[1]);
	is_sent(sub, "id: 1:2:b-rB\nevent: stream-closed\ndata: {\"last\":2}\n\n",
			"an end that the database tells");
	is_number(subscriber_fill(sub, (char[1]){0}, 1), FILL_END, "is one");
	subscriber_free(sub);

	sub = subscribe(&client, "/events?stream=1&stream=2");
	append(1, 1, "a", true);
	is_sent(sub,
			"id: 0:1:b-rA\nevent: a\ndata: 1\n\n"
			"id: 0:1:b-rA\nevent: stream-closed\ndata: {\"last\":1}\n\n",
			"a stream closes");
	stream_reset(hub_find(1), 0);
	append(1, 1, "b", false);
	is_sent(sub, "id: 0:1:b-rA\nevent: b\ndata: 1\n\n", "that has lost its end goes on");
	append(1, 2, "a", true);
	is_sent(sub,
			"id: 0:2:b-rA\nevent: a\ndata: 1\n\n"
			"id: 0:2:b-rA\nevent: stream-closed\ndata: {\"last\":2}\n\n",
			"to an end, which is told again");
	subscriber_free(sub);

	sub = subscribe(&client, "/events?stream=1&stream=2");
	append(1, 1, "a", false);
	is_number(subscriber_fill(sub, (char[4]){0}, 4), 4, "part of an id");
	subscriber_end(sub, frame_retry(9, "bye"));
	is_sent(sub, "0:1:b-rA\nevent: a\ndata: 1\n\nretry: 9\n: bye\n\n",
			"a farewell does not part an id from its event");
	subscriber_free(sub);

	frame_unref(live);
	frame_unref(comment);
	play_end();
}

int
main(void)
{
	loop_init();
	test_order();
	test_delivery();
	loop_close();
	return done();
}

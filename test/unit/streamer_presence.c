/*
 * streamer_presence.c
 *		Whatever a client has missed, in the end it knows exactly who is present.
 *
 * Connections and another streamer are played by the test, in a random order that
 * is the same on every run: clients of every speed come, go and listen to one room
 * or two, the other streamer's users come and go in crowds, and the loop turns now
 * and then.  The grace is 0; what it is for, deterministic tests show.
 */
#include <unistd.h>

#include "gossip.h"
#include "presence.h"
#include "streamer_play.h"

#define ROOMS        3
#define REMOTE_USERS 180 /* of the other streamer */
#define USERS        (REMOTE_USERS + CLIENTS)
#define STEPS        40000

static const char *const room_keys[ROOMS] = {"channel:a", "channel:b", "channel:c"};

static StringList kinds = {.count = 2, .items = {(char *) "team", (char *) "channel"}};
static Holder remote;

/* A client, and what it knows of each room. */
typedef struct Client
{
	Connection conn; /* first */
	int rooms[2];    /* of each parameter */
	int user;        /* -1: nobody */
	bool listens;
	bool told[ROOMS]; /* it has got a list */
	bool knows[ROOMS][USERS];
	int lists;
	int changes;
	const char *fault;
} Client;

static Client clients[CLIENTS];

/* A user's id, and name; they sort as the numbers do. */
static const char *
user_id(int user)
{
	static char id[16];

	snprintf(id, sizeof(id), "u%03d", user);
	return id;
}

/* Turn the loop until nothing waits: alarms that are due, and the pace. */
static void
turn(void)
{
	int64_t end = loop_clock() / 1000 + 70;

	while (loop_clock() / 1000 < end)
		loop_turn(5);
}

/* ---- what clients are sent ---- */

/* The list replaces what is known. */
static void
client_take_list(Client *client, int room, const char *data)
{
	const char *at = data;
	int last = -1;
	int user;

	memset(client->knows[room], 0, sizeof(client->knows[room]));
	while ((at = strstr(at, "\"userId\":\"u")) != NULL &&
		   sscanf(at, "\"userId\":\"u%d", &user) == 1)
	{
		if (user <= last)
			client->fault = "a list that is not sorted";
		client->knows[room][user] = true;
		last = user;
		at++;
	}
	client->told[room] = true;
	client->lists++;
}

/* A change says something new. */
static void
client_take_change(Client *client, int room, const char *data)
{
	bool online = strstr(data, "\"status\":\"online\"") != NULL;
	const char *id = strstr(data, "\"userId\":\"u");
	int user;

	if (id == NULL || sscanf(id, "\"userId\":\"u%d", &user) != 1 || !client->told[room] ||
		client->knows[room][user] == online)
		client->fault = "a change that is none";
	else
		client->knows[room][user] = online;
	client->changes++;
}

/* Take one whole frame from what a client has received. */
static void
client_take(Connection *conn, const char *frame)
{
	Client *client = (Client *) conn;
	const char *event = strstr(frame, "event: presence");
	int index = 0;

	if (*frame == ':')
		return;
	if (conn->sub->composite != (sscanf(frame, "id: %d:", &index) == 1))
		client->fault = "an event whose stream is not told, or need not be";
	if (event == NULL || !client->listens)
		client->fault = "an event that is not wanted";
	else if (strncmp(event, "event: presence-list\n", 21) == 0)
		client_take_list(client, client->rooms[index], event);
	else
		client_take_change(client, client->rooms[index], event);
}

/* ---- what happens ---- */

/* A client comes, perhaps with a filter, perhaps before the places are found. */
static void
client_come(Client *client)
{
	static const char *const filters[] = {"", "", "", "&types=chat,presence", "&types=chat"};
	int filter = (int) (random() % 5);
	bool both = random() % 3 == 0;
	char target[100];

	memset(client->told, 0, sizeof(client->told));
	client->rooms[0] = (int) (random() % ROOMS);
	client->rooms[1] = (client->rooms[0] + 1) % ROOMS;
	client->listens = filter != 4;
	client->user = random() % 4 == 0 ? -1 : REMOTE_USERS + (int) (random() % CLIENTS);
	if (both)
		snprintf(target, sizeof(target), "/events?stream=%s&stream=%s%s",
				 room_keys[client->rooms[0]], room_keys[client->rooms[1]], filters[filter]);
	else
		snprintf(target, sizeof(target), "/events/%s?after=0%s", room_keys[client->rooms[0]],
				 filters[filter]);
	client->conn.sub = request(&client->conn, target, NULL);
	subscriber_admit(client->conn.sub, VERDICT_OPEN);
	subscriber_open(client->conn.sub, frame_comment("hello"));
	presence_enter(client->conn.sub, client->user < 0 ? NULL : user_id(client->user),
				   client->user < 0 ? NULL : user_id(client->user));
}

/* The places of a client are found; nothing was ever stored. */
static void
client_find(Client *client)
{
	for (int i = 0; client->conn.sub != NULL && i < client->conn.sub->count; i++)
		if (!client->conn.sub->places[i].known)
			place_find(&client->conn.sub->places[i], 0);
}

/* A user of the other streamer comes, or goes. */
static void
play_remote(void)
{
	const char *key = room_keys[random() % ROOMS];
	const char *id = user_id((int) (random() % REMOTE_USERS));
	Hold *hold = roster_find(&remote, key, id);

	if (hold != NULL)
		roster_release(hold, 0);
	else
		roster_hold(&remote, key, id, id, 1);
}

/* One random step. */
static void
play(void)
{
	Client *client = &clients[random() % CLIENTS];
	long dice = random() % 100;

	if (dice < 30)
		play_remote();
	else if (dice < 31 && random() % 4 == 0)
		for (int i = 0; i < 400; i++)
			play_remote();
	else if (dice < 40)
		loop_turn(0);
	else if (dice < 42)
	{
		play_break(&client->conn);
		if (random() % 3 > 0)
			client_come(client);
	}
	else if (dice < 45)
		client_find(client);
	else
		play_fill(&client->conn, (size_t) (1 + random() % (client - clients > 3 ? 1000 : 60)),
				  client_take);
}

/* Is the user in the room? */
static bool
is_present(int room, int user)
{
	if (user < REMOTE_USERS)
		return roster_find(&remote, room_keys[room], user_id(user)) != NULL;
	for (int i = 0; i < CLIENTS; i++)
	{
		const Subscriber *sub = clients[i].conn.sub;

		for (int k = 0; sub != NULL && clients[i].user == user && k < sub->count; k++)
			if (strcmp(sub->places[k].stream->key, room_keys[room]) == 0)
				return true;
	}
	return false;
}

/* How many clients know something else than what is? */
static int
count_wrong(void)
{
	int wrong = 0;

	for (int i = 0; i < CLIENTS; i++)
	{
		const Client *client = &clients[i];

		for (int k = 0; client->conn.sub != NULL && client->listens && k < client->conn.sub->count;
			 k++)
			for (int user = 0; user < USERS; user++)
				if (!client->told[client->rooms[k]] ||
					client->knows[client->rooms[k]][user] != is_present(client->rooms[k], user))
				{
					wrong++;
					break;
				}
	}
	return wrong;
}

/* Nothing happens any more; everybody catches up. */
static void
play_out(void)
{
	for (int i = 0; i < CLIENTS; i++)
		client_find(&clients[i]);
	turn();
	for (int i = 0; i < 2000; i++)
		for (int k = 0; k < CLIENTS; k++)
			play_fill(&clients[k].conn, 1000, client_take);
}

/* Any order of events. */
static void
test_play(void)
{
	const char *fault = NULL;
	int lists = 0;
	int changes = 0;

	srandom(7);
	for (int i = 0; i < STEPS; i++)
		play();
	play_out();
	for (int i = 0; i < CLIENTS; i++)
	{
		fault = clients[i].fault != NULL ? clients[i].fault : fault;
		lists += clients[i].lists;
		changes += clients[i].changes;
	}
	is(fault, NULL, "what clients are sent is news to them");
	is_number(count_wrong(), 0, "in the end all know exactly who is present");
	ok(lists > 200 && changes > 1000, "they were told by lists and by changes");
	for (int i = 0; i < CLIENTS; i++)
		play_break(&clients[i].conn);
	roster_release_all(&remote, 0);
	turn();
	is_number((long long) roster_users(), 0, "when all have gone nobody is left");
}

/* ---- one at a time ---- */

/* What a client is sent, but for the times. */
static void
is_told(Connection *conn, const char *want, const char *name)
{
	char out[8192];
	ssize_t filled = subscriber_fill(conn->sub, out, sizeof(out) - 1);
	char *stamp;

	out[filled > 0 ? filled : 0] = '\0';
	while ((stamp = strstr(out, "\"timestamp\":\"2")) != NULL)
		memmove(stamp, stamp + 39, strlen(stamp + 39) + 1);
	is(out, want, name);
}

/* A client of a room, to which its first frame has been sent. */
static void
enter(Connection *conn, const char *target, const char *user, const char *name)
{
	Subscriber *sub = request(conn, target, NULL);

	conn->sub = sub;
	is_opened(sub);
	subscriber_wake(sub);
	presence_enter(sub, user, name);
}

/* Names, and rows that come meanwhile. */
static void
test_one(void)
{
	Connection ann = {0};
	Connection bob = {0};
	Stream *stream;

	enter(&ann, "/events/team:1", "a", "A\n\"1\"");
	is_told(&ann,
			"event: presence-list\ndata: "
			"{\"users\":[{\"userId\":\"a\",\"userName\":\"A\\u000a\\\"1\\\"\"}]}\n\n",
			"the list");
	enter(&bob, "/events/team:1", "b", "B");
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":\"b\","
			"\"userName\":\"B\"}\n\n",
			"who comes");
	is_told(&ann, "", "once");
	roster_hold(&remote, "team:1", "b", "C", INT64_MAX);
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":\"b\","
			"\"userName\":\"C\"}\n\n",
			"another name, taken later at another streamer");
	roster_hold(&remote, "team:1", "b", "D", 1);
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":\"b\","
			"\"userName\":\"B\"}\n\n",
			"and one that was taken earlier");
	play_break(&bob);
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":\"b\","
			"\"userName\":\"D\"}\n\n",
			"who is left at the other streamer has the name it has there");

	roster_release_all(&remote, 0);
	stream = hub_find_key("team:1");
	for (int i = 1; i <= 3; i++)
		stream_append(stream, frame_event(i, "t", 1, "x", 1, false));
	roster_hold(&remote, "team:1", "c", "C", 1);
	stream_wake(stream);
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":\"c\","
			"\"userName\":\"C\"}\n\n"
			"id: 1\nevent: t\ndata: x\n\n"
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"offline\",\"userId\":\"b\","
			"\"userName\":\"D\"}\n\n"
			"id: 2\nevent: t\ndata: x\n\nid: 3\nevent: t\ndata: x\n\n",
			"rows and who is present take turns");
	play_break(&ann);
	roster_release_all(&remote, 0);
	turn();
}

/* The grace, which others may prolong. */
static void
test_grace(void)
{
	Connection ann = {0};
	static const char key[] = "channel:grace";
	static const char list[] =
		"event: presence-list\ndata: {\"users\":[{\"userId\":\"u\",\"userName\":\"u\"}]}\n\n";

	roster_release(roster_hold(&remote, key, "u", "u", 1), 200);
	turn();
	enter(&ann, "/events/channel:grace", NULL, NULL);
	is_told(&ann, list, "a user whose streamer stops stays for longer");
	roster_hold(&remote, key, "u", "u", 2);
	for (int i = 0; i < 4; i++)
		turn();
	is_told(&ann, "", "and for good when it is held again");
	roster_release_all(&remote, 0);
	turn();
	is_told(&ann,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"offline\",\"userId\":\"u\","
			"\"userName\":\"u\"}\n\n",
			"then it leaves");
	play_break(&ann);
}

/* More than there is room for. */
static void
test_bounds(void)
{
	char id[16];
	int held = 0;

	for (int i = 0; i < ROSTER_USERS_MAX + 10; i++)
	{
		snprintf(id, sizeof(id), "%d", i);
		held += roster_hold(&remote, "channel:full", id, id, 1) != NULL;
	}
	is_number(held, ROSTER_USERS_MAX, "a roster has so many users and no more");
	ok(roster_hold(&remote, "channel:full", "0", "new name", 2) != NULL, "those it has stay");
	roster_release_all(&remote, 0);
	turn();
	ok(roster_hold(&remote, "channel:full", "x", "x", 1) != NULL, "who leaves makes room");
	roster_release_all(&remote, 0);
	turn();
}

/* What other streamers may hold in all. */
static void
test_holds(void)
{
	static Holder others[HOLDS_MAX / ROSTER_USERS_MAX + 1];
	const int count = sizeof(others) / sizeof(others[0]);
	char id[16];
	int held = 0;

	for (int i = 0; i < count; i++)
	{
		LIST_INIT(&others[i].holds);
		for (int k = 0; k < ROSTER_USERS_MAX; k++)
		{
			snprintf(id, sizeof(id), "%05d", k);
			held += roster_hold(&others[i], "channel:full", id, id, 1) != NULL;
		}
	}
	is_number(held, HOLDS_MAX, "holders hold so many and no more");
	roster_release_all(&others[0], 0);
	ok(roster_hold(&others[count - 1], "channel:full", "00000", "x", 1) != NULL,
	   "one that gives up makes room");
	for (int i = 0; i < count; i++)
		roster_release_all(&others[i], 0);
	turn();
	is_number((long long) roster_users(), 0, "all leave");
}

/* One user takes no more than its share; who waits for room gets it. */
static void
test_share(void)
{
	Connection conn = {0};
	Connection other = {0};
	int64_t end = loop_clock() / 1000 + 3000;
	char key[32];
	int held = 0;

	for (int i = 0; i < ROSTER_MINE_MAX + 10; i++)
	{
		snprintf(key, sizeof(key), "channel:%d", i);
		held += roster_hold(&remote, key, "greedy", "g", 1) != NULL;
	}
	is_number(held, ROSTER_MINE_MAX, "a user is in so many rosters and no more");
	enter(&conn, "/events/channel:one-more", "greedy", "g");
	is_told(&conn, "event: presence-list\ndata: {\"users\":[]}\n\n", "it is not shown in another");
	enter(&other, "/events/channel:one-more", "modest", "m");
	turn();
	is_told(&conn,
			"event: presence\ndata: {\"type\":\"presence\",\"status\":\"online\",\"userId\":"
			"\"modest\",\"userName\":\"m\"}\n\n",
			"another user is");
	play_break(&other);
	turn();
	roster_release(roster_find(&remote, "channel:0", "greedy"), 0);
	while (!conn.sub->places[0].hold && loop_clock() / 1000 < end)
		loop_turn(5);
	ok(roster_find(presence_here(), "channel:one-more", "greedy") != NULL,
	   "but is when there is room");
	play_break(&conn);
	enter(&conn, "/events/channel:0", "greedy", "g");
	play_break(&conn);
	turn();
	is_number((long long) roster_users(), ROSTER_MINE_MAX - 1, "who leaves waits no longer");
	roster_release_all(&remote, 0);
	turn();
}

/* What others emit under the name of presence. */
static void
test_claims(void)
{
	static const char type[] = "presence";
	static const char *const claims[] = {"{\"status\": \"online\"}",
										 "{\"status\": \"busy\", \"status\":\"offline\"}",
										 "{\"st\\u0061tus\": \"\\u006fnline\"}",
										 "{\"status\":\"online\",\"x\":1e999}", "{"};
	static const char *const others[] = {"{\"status\": \"busy\"}", "{}", "7", "[\"online\"]",
										 "{\"status\":{\"status\":\"online\"}}"};
	Connection conn = {0};
	Frame *frame = frame_event(0, type, strlen(type), "1", 1, false);
	int found = 0;

	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
		found += presence_claims(type, strlen(type), claims[i]);
	is_number(found, sizeof(claims) / sizeof(claims[0]), "events that say who comes or goes");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		found -= !presence_claims(type, strlen(type), others[i]);
	is_number(found, 0, "and others");
	ok(!presence_claims("presenceful", 11, claims[0]) && !presence_claims("presence", 4, claims[0]),
	   "of other types nothing is read");
	enter(&conn, "/events/user:1?types=presence", NULL, NULL);
	frame->claims = true;
	stream_send_live(conn.sub->places[0].stream, frame);
	is_told(&conn, "event: presence\ndata: 1\n\n", "they pass where there is no presence");
	play_break(&conn);
	enter(&conn, "/events/team:1?types=presence&after=0", NULL, NULL);
	stream_send_live(conn.sub->places[0].stream, frame);
	frame->claims = false;
	stream_send_live(conn.sub->places[0].stream, frame);
	is_told(&conn, "event: presence\ndata: 1\n\nevent: presence-list\ndata: {\"users\":[]}\n\n",
			"and are dropped where there is");
	play_break(&conn);
	frame_unref(frame);
}

int
main(void)
{
	loop_init();
	play_begin(1 << 20, 0);
	presence_start(&kinds, 0);
	ok(presence_covers("team:x") && presence_covers("channel:a:b"), "streams of these kinds");
	ok(!presence_covers("channels:x") && !presence_covers("channel") && !presence_covers("42") &&
		   !presence_covers("chan:nel"),
	   "and no others");
	test_one();
	test_grace();
	test_bounds();
	test_holds();
	test_share();
	test_claims();
	test_play();
	presence_stop();
	alarms_close();
	play_end();
	loop_close();
	return done();
}

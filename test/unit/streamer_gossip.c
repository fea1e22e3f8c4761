/*
 * streamer_gossip.c
 *		Streamers tell each other everything once and then what changes, and notice gaps.
 *
 * The other streamers and the database between are played by the test, which reads
 * and writes the messages.
 */
#include <inttypes.h>

#include "gossip.h"
#include "gossip_message.h"
#include "loop.h"
#include "presence.h"
#include "streamer_play.h"

#define OTHER "0123456789abcdef0123456789abcdef"
#define KEY   "channel:a"
#define GRACE 100

static StringList kinds = {.count = 1, .items = {(char *) "channel"}};

/* The message that is due, as it stands, while it is not known to be sent; NULL if none is. */
static const char *
take_only(void)
{
	static Buf payload;

	if (payload.data != NULL)
		buf_free(&payload);
	if (!gossip_is_due())
		return NULL;
	buf_init(&payload);
	gossip_take(&payload);
	return payload.data;
}

/* The same, and it is sent. */
static const char *
take(void)
{
	const char *payload = take_only();

	if (payload != NULL)
		gossip_sent();
	return payload;
}

/* Turn the loop for so many milliseconds. */
static void
turn(int64_t ms)
{
	int64_t end = loop_clock() / 1000 + ms;

	while (loop_clock() / 1000 < end)
		loop_turn(2);
}

/* Does the message that is due hold all these, in this order? */
static void
is_due(const char *name, const char *first, const char *second)
{
	const char *payload = take();
	const char *at = payload != NULL ? strstr(payload, first) : NULL;

	if (!ok(at != NULL && strstr(at, second) != NULL, name))
		printf("#  got: %s\n", payload != NULL ? payload : "(nothing)");
}

/* Another streamer says this. */
static void
hear(const char *id, int64_t number, const char *rest)
{
	Buf payload;

	buf_init(&payload);
	buf_format(&payload, "{\"from\":\"%s\",\"n\":%" PRId64 ",\"every\":1000%s}", id, number, rest);
	gossip_hear(payload.data);
	buf_free(&payload);
}

/* Who is present, as ids one after the other. */
static void
is_present(const char *want, const char *name)
{
	Connection conn = {0};
	char out[8192];
	char ids[256] = "";
	ssize_t filled;

	conn.sub = request(&conn, "/events/" KEY, NULL);
	subscriber_admit(conn.sub, VERDICT_OPEN);
	subscriber_open(conn.sub, frame_comment("hello"));
	presence_enter(conn.sub, NULL, NULL);
	filled = subscriber_fill(conn.sub, out, sizeof(out) - 1);
	out[filled > 0 ? filled : 0] = '\0';
	for (const char *at = out; (at = strstr(at, "\"userId\":\"")) != NULL; at += 10)
		strncat(ids, at + 10, strcspn(at + 10, "\""));
	play_break(&conn);
	is(ids, want, name);
}

/* A client of this streamer. */
static void
enter(Connection *conn, const char *user)
{
	conn->sub = request(conn, "/events/" KEY, NULL);
	subscriber_admit(conn->sub, VERDICT_OPEN);
	subscriber_open(conn->sub, frame_comment("hello"));
	presence_enter(conn->sub, user, user);
}

/* What this one tells. */
static void
test_telling(void)
{
	Connection conns[3] = {0};

	enter(&conns[0], "x");
	ok(take() == NULL, "nothing is told while the database is away");
	gossip_connect();
	is_due("then everything is told and asked for",
		   "\"n\":1,\"every\":1000,\"hello\":true,\"begin\":true,\"end\":true",
		   "\"users\":[[\"channel:a\",\"x\",\"x\",");
	ok(take() == NULL, "once");
	enter(&conns[1], "y");
	ok(take() == NULL, "changes gather for a moment");
	enter(&conns[2], "z");
	play_break(&conns[0]);
	turn(40);
	is_due("changes are told together",
		   "\"n\":2,\"every\":1000,\"users\":[[\"channel:a\",\"y\",\"y\",",
		   "],[\"channel:a\",\"x\"]]}");
	play_break(&conns[2]);
	enter(&conns[2], "z");
	turn(40);
	is_due("what is as it was is told once",
		   "\"n\":3,\"every\":1000,\"users\":[[\"channel:a\",\"z\",\"z\",", "]]}");
	turn(1050);
	is_due("who has nothing to tell is heard all the same", "\"n\":4,\"every\":1000}", "");
	play_break(&conns[1]);
	gossip_disconnect();
	play_break(&conns[2]);
	gossip_connect();
	is_due("after an outage everything is told", "\"begin\":true,\"end\":true}", "");
}

/* A crowd takes several messages. */
static void
test_crowd(void)
{
	static Connection conns[300];
	char user[32];
	int messages = 0;
	int told = 0;
	const char *payload;

	for (int i = 0; i < 300; i++)
	{
		snprintf(user, sizeof(user), "\x01%d", i);
		enter(&conns[i], user);
	}
	turn(40);
	while ((payload = take()) != NULL)
	{
		GossipMessage message;
		GossipUser item;

		messages++;
		if (strlen(payload) > GOSSIP_PAYLOAD_MAX || !gossip_message_parse(payload, &message))
			messages = 1000;
		else
			for (size_t i = 0; gossip_message_user(&message, i, &item); i++)
				told++;
		gossip_message_free(&message);
	}
	ok(messages > 1 && messages < 10, "messages that PostgreSQL takes");
	is_number(told, 300, "of which each tells of others");
	for (int i = 0; i < 300; i++)
		play_break(&conns[i]);
	turn(40);
	while (take() != NULL)
		;
}

/* Whoever may send a message may send many. */
static void
test_flood(void)
{
	char id[GOSSIP_ID_LEN + 1];
	int answers = 0;

	for (int i = 0; i < 1000; i++)
	{
		snprintf(id, sizeof(id), "%032x", i);
		hear(id, 7, ",\"hello\":true");
		answers += take() != NULL;
	}
	is_number((long long) gossip_peers(), 128, "so many streamers are known and no more");
	ok(answers <= 2, "who is asked for everything tells it in its time");
}

/* What others tell. */
static void
test_hearing(void)
{
	turn(1050);
	(void) take();
	hear(OTHER, 1,
		 ",\"hello\":true,\"begin\":true,\"end\":true,\"users\":[[\"channel:a\",\"a\",\"A\",1],"
		 "[\"channel:a\",\"b\",\"B\",1],[\"user:c\",\"c\",\"C\",1]]");
	is_present("ab", "users of another streamer");
	is_due("who says hello is told everything", "\"begin\":true", "");
	hear(OTHER, 2, ",\"users\":[[\"channel:a\",\"c\",\"C\",1],[\"channel:a\",\"a\"]]");
	turn(GRACE + 10);
	is_present("bc", "changes");
	ok(take() == NULL, "of which nothing is missing");
	hear(OTHER, 4, "");
	is_due("who misses a message says hello", "\"hello\":true", "");
	hear(OTHER, 5, ",\"begin\":true,\"users\":[[\"channel:a\",\"d\",\"D\",1]]");
	turn(GRACE + 10);
	is_present("bcd", "while everything is told nobody leaves");
	hear(OTHER, 7, ",\"end\":true");
	turn(GRACE + 10);
	is_present("bcd", "nor at the end, if a part is missing");
	hear(OTHER, 8, ",\"begin\":true");
	hear(OTHER, 9, ",\"end\":true,\"users\":[[\"channel:a\",\"b\",\"B\",1]]");
	turn(GRACE + 10);
	is_present("b", "who has not been told of by the end has left");
	gossip_disconnect();
	turn(3200);
	is_present("b", "while the database is away nobody is missed");
	gossip_connect();
	hear(OTHER, 10, "");
	test_flood();
	turn(3300);
	is_present("", "but who has been heard since, and then is silent");
	is_number((long long) gossip_peers(), 0, "is gone");
	hear(OTHER, 1, ",\"begin\":true,\"end\":true,\"users\":[[\"channel:a\",\"b\",\"B\",1]]");
	hear(OTHER, 2, ",\"bye\":100");
	turn(GRACE + 10);
	is_present("b", "who says good-bye gives its users time");
	turn(2 * GRACE);
	is_present("", "and no more than that");
}

/* The end. */
static void
test_leaving(void)
{
	Connection conn = {0};

	(void) take();
	enter(&conn, "late");
	turn(40);
	ok(take_only() != NULL, "while a message is on its way");
	gossip_leave(700);
	gossip_sent();
	ok(gossip_is_leaving(), "before it goes it says so");
	is_due("with the time its users need", "\"bye\":700}", "");
	ok(!gossip_is_leaving() && take() == NULL, "and then nothing more");
	play_break(&conn);
}

int
main(void)
{
	loop_init();
	play_begin(1 << 20, 0);
	presence_start(&kinds, GRACE);
	gossip_start(GRACE);
	test_telling();
	test_crowd();
	test_hearing();
	test_leaving();
	gossip_stop();
	presence_stop();
	(void) take();
	alarms_close();
	play_end();
	loop_close();
	return done();
}

/*
 * gossip.c
 *		Streamers of one database tell each other who is present at each.
 *
 * They do so by notifications, which need neither a table nor a right.  Each tells
 * of its own clients only, so nobody has to agree on anything: what another has
 * told is a hold on the roster that it takes and gives up (roster.c).
 *
 * Notifications come in order, or the connection is lost.  So changes suffice, once
 * everything has been told.  Who is new, or was disconnected, says hello and tells
 * everything, and all others tell it everything.  Messages are numbered: who misses
 * one for whatever reason says hello, too.
 *
 * What is to be told is a set of users; how each is held is looked up when it is
 * told.  So what changes twice in between is told once, telling everything is no
 * more than putting all into the set, and nothing grows while the database is slow.
 *
 * A streamer that is not heard for three times as long as it said it would be is
 * gone.  None goes while the database is away, for then none can be heard.
 *
 * Whoever may connect to the database may listen here, and say anything.  What that
 * can take is bounded: streamers, users and holds in number, answers in time; but
 * not whom it keeps out, if it takes it all.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "gossip.h"
#include "gossip_message.h"
#include "log.h"
#include "loop.h"
#include "presence.h"

#define GOSSIP_PEERS_MAX   128   /* other streamers that are known */
#define GOSSIP_PACE        30    /* milliseconds in which changes gather */
#define GOSSIP_PAUSE       1000  /* milliseconds between two hellos, or two times of telling all */
#define GOSSIP_EVERY_LEAST 1000  /* milliseconds; at least so often each is heard */
#define GOSSIP_EVERY       10000 /* likewise, whatever the grace */
#define GOSSIP_LEASE       3     /* times that */
#define GOSSIP_AGAIN       60000 /* milliseconds until all is asked for anew that there was no room for */
#define GOSSIP_LOG         60000 /* milliseconds between two warnings that there are too many */
#define GOSSIP_RETURN      7000  /* milliseconds; link.c tries to connect at least so often */

/* Another streamer. */
typedef struct Peer
{
	char id[GOSSIP_ID_LEN + 1];
	Holder holder;
	int64_t number; /* of its last message */
	int64_t lease;  /* milliseconds that it may be silent */
	bool telling;   /* it is about to tell everything, and none of that is missing */
	Alarm silence;
} Peer;

static struct
{
	bool on;
	bool up; /* the connection to the database */
	char id[GOSSIP_ID_LEN + 1];
	Peer *peers[GOSSIP_PEERS_MAX];
	size_t count;

	int64_t number;       /* of the last message sent */
	int64_t every;        /* one at least in so many milliseconds */
	int64_t sent_time;    /* the last */
	struct UserList tell; /* users to be told of */
	int64_t tell_time;    /* since when there are any */
	bool hello;           /* to be said */
	int64_t hello_time;   /* when it may be */
	bool all;             /* everything is to be told */
	int64_t all_time;     /* when that may begin */
	bool telling;         /* that has begun */
	int64_t due;          /* when there is something to be sent */
	Timer timer;
	Timer again;        /* set after users of others found no room */
	int64_t crowd_time; /* when it was logged that there are too many streamers; 0: never */

	bool leaving;
	bool saying; /* so, in the message that was taken last */
	bool left;   /* and has said so */
	int64_t back;
} gossip;

static void gossip_plan(void);

/* ---- others ---- */

/* Forget another streamer; its users leave, unless they are back within the grace and this. */
static void
peer_drop(Peer *peer, int64_t more)
{
	size_t i = 0;

	while (gossip.peers[i] != peer)
		i++;
	gossip.peers[i] = gossip.peers[--gossip.count];
	alarm_clear(&peer->silence);
	roster_release_all(&peer->holder, more);
	free(peer);
}

static void
peer_on_silence(void *arg)
{
	Peer *peer = arg;

	log_info("the streamer %.8s has not been heard for %lld s: its users leave", peer->id,
			 (long long) peer->lease / 1000);
	peer_drop(peer, 0);
}

/* Wait for it to be heard. */
static void
peer_await(Peer *peer, int64_t more)
{
	alarm_set(&peer->silence, loop_now() + peer->lease + more, peer_on_silence, peer);
}

/* The other streamer of this id, or NULL. */
static Peer *
peer_find(const char *id)
{
	for (size_t i = 0; i < gossip.count; i++)
		if (strcmp(gossip.peers[i]->id, id) == 0)
			return gossip.peers[i];
	return NULL;
}

/* There are more than may be known. */
static void
peer_refused(void)
{
	if (gossip.crowd_time != 0 && loop_now() - gossip.crowd_time < GOSSIP_LOG)
		return;
	gossip.crowd_time = loop_now();
	log_warning("more than %d other streamers tell who is present: the users of some are not shown",
				GOSSIP_PEERS_MAX);
}

/* Get to know one; NULL if there are too many. */
static Peer *
peer_new(const char *id)
{
	Peer *peer;

	if (gossip.count == GOSSIP_PEERS_MAX)
	{
		peer_refused();
		return NULL;
	}
	peer = mem_zero(sizeof(Peer));
	memcpy(peer->id, id, sizeof(peer->id));
	gossip.peers[gossip.count++] = peer;
	log_debug("heard of the streamer %.8s", id);
	return peer;
}

/* It begins to tell everything. */
static void
peer_begin(Peer *peer)
{
	Hold *hold;

	LIST_FOREACH(hold, &peer->holder.holds, holder_link)
	{
		hold->doubted = true;
	}
	peer->telling = true;
}

/* It has told everything: what it has not told is so no more. */
static void
peer_end(Peer *peer)
{
	Hold *hold = LIST_FIRST(&peer->holder.holds);

	peer->telling = false;
	while (hold != NULL)
	{
		Hold *next = LIST_NEXT(hold, holder_link);

		if (hold->doubted)
			roster_release(hold, 0);
		hold = next;
	}
}

/* There may be room again: let the others tell everything. */
static void
gossip_on_again(void *arg)
{
	(void) arg;
	gossip.hello = true;
	gossip_plan();
}

/* There is no room for a user that is told of. */
static void
peer_refused_user(void)
{
	roster_refused();
	if (!gossip.again.set)
		timer_set(&gossip.again, GOSSIP_AGAIN, gossip_on_again, NULL);
}

/* It tells of a user. */
static void
peer_take_user(Peer *peer, const GossipUser *user)
{
	Hold *hold;

	if (!presence_covers(user->key))
		return;
	if (user->name != NULL)
	{
		hold = roster_hold(&peer->holder, user->key, user->id, user->name, user->since);
		if (hold != NULL)
			hold->doubted = false;
		else
			peer_refused_user();
		return;
	}
	hold = roster_find(&peer->holder, user->key, user->id);
	if (hold != NULL)
		roster_release(hold, 0);
}

/* How many other streamers are known? */
size_t
gossip_peers(void)
{
	return gossip.count;
}

/* ---- what is to be sent ---- */

static void
gossip_on_time(void *arg)
{
	(void) arg; /* the loop turns, and so it is sent */
}

/* Find out when there is something to be sent. */
static void
gossip_plan(void)
{
	gossip.due = gossip.sent_time + gossip.every;
	if (!TAILQ_EMPTY(&gossip.tell) && gossip.tell_time + GOSSIP_PACE < gossip.due)
		gossip.due = gossip.tell_time + GOSSIP_PACE;
	if (gossip.hello && gossip.hello_time < gossip.due)
		gossip.due = gossip.hello_time;
	if (gossip.all && gossip.all_time < gossip.due)
		gossip.due = gossip.all_time;
	if (gossip.telling || gossip.leaving)
		gossip.due = loop_now();
	timer_set(&gossip.timer, gossip.due - loop_now(), gossip_on_time, NULL);
}

/* Is there something to be sent now? */
bool
gossip_is_due(void)
{
	return gossip.up && !gossip.left && loop_now() >= gossip.due;
}

/* Add a user to those that are to be told of. */
static void
gossip_add(User *user)
{
	if (user->untold)
		return;
	if (TAILQ_EMPTY(&gossip.tell))
		gossip.tell_time = loop_now();
	user->untold = true;
	TAILQ_INSERT_TAIL(&gossip.tell, user, untold_link);
}

/* Take a user out of them. */
static void
gossip_remove(User *user)
{
	user->untold = false;
	TAILQ_REMOVE(&gossip.tell, user, untold_link);
}

/* See the header.  While the database is away nothing is noted: all will be told. */
void
gossip_tell(User *user)
{
	if (!gossip.up || gossip.leaving)
		return;
	gossip_add(user);
	gossip_plan();
}

/* See the header.  If its leaving has not been told, it is by telling everything else. */
void
gossip_forget(User *user)
{
	if (!user->untold)
		return;
	gossip_remove(user);
	gossip.all = true;
	gossip_plan();
}

/* Begin to tell everything. */
static void
gossip_begin(GossipMessage *message)
{
	Hold *hold;

	LIST_FOREACH(hold, &presence_here()->holds, holder_link)
	{
		gossip_add(hold->user);
	}
	message->begin = true;
	gossip.telling = true;
	gossip.all = false;
	gossip.all_time = loop_now() + GOSSIP_PAUSE;
}

/* Tell of as many users as there is room for. */
static void
gossip_add_users(GossipDraft *draft)
{
	User *user;

	while ((user = TAILQ_FIRST(&gossip.tell)) != NULL)
	{
		const Hold *hold = user_hold(user, presence_here());
		GossipUser item = {user->roster->key, user->id, NULL, 0};

		if (hold != NULL)
		{
			item.name = hold->name;
			item.since = hold->since;
		}
		if (!gossip_draft_add(draft, &item))
			return;
		gossip_remove(user);
	}
}

/* Write the message that is due. */
void
gossip_take(Buf *payload)
{
	GossipMessage message = {.number = ++gossip.number, .every = gossip.every};
	GossipDraft draft;

	memcpy(message.from, gossip.id, sizeof(message.from));
	message.bye = gossip.leaving;
	gossip.saying = gossip.leaving;
	message.back = gossip.back;
	gossip_draft_init(&draft);
	if (!gossip.leaving)
	{
		message.hello = gossip.hello && loop_now() >= gossip.hello_time;
		if (message.hello)
			gossip.hello_time = loop_now() + GOSSIP_PAUSE;
		gossip.hello = gossip.hello && !message.hello;
		if (gossip.all && loop_now() >= gossip.all_time)
			gossip_begin(&message);
		gossip_add_users(&draft);
		message.end = gossip.telling && TAILQ_EMPTY(&gossip.tell);
		gossip.telling = gossip.telling && !message.end;
	}
	gossip_draft_end(&draft, &message, payload);
	gossip.sent_time = loop_now();
	gossip_plan();
}

/* What was taken has been sent. */
void
gossip_sent(void)
{
	gossip.left = gossip.saying;
}

/* ---- what is heard ---- */

/* Another streamer says something. */
static void
gossip_take_message(const GossipMessage *message)
{
	Peer *peer = peer_find(message->from);
	GossipUser user;

	if (peer == NULL && !message->bye)
		peer = peer_new(message->from);
	if (peer == NULL)
		return;
	if (message->bye)
	{
		peer_drop(peer, message->back);
		return;
	}
	if (message->begin)
		peer_begin(peer);
	else if (message->number != peer->number + 1)
	{
		peer->telling = false;
		gossip.hello = true;
	}
	peer->number = message->number;
	for (size_t i = 0; gossip_message_user(message, i, &user); i++)
		peer_take_user(peer, &user);
	if (message->end && peer->telling)
		peer_end(peer);
	peer->lease =
		GOSSIP_LEASE * (message->every > GOSSIP_EVERY_LEAST ? message->every : GOSSIP_EVERY_LEAST);
	peer_await(peer, 0);
	gossip.all = gossip.all || message->hello;
	gossip_plan();
}

/* A message has come, which may be our own. */
void
gossip_hear(const char *payload)
{
	GossipMessage message;

	if (!gossip_message_parse(payload, &message))
	{
		log_debug("malformed notification on channel pev_presence dropped");
		return;
	}
	if (strcmp(message.from, gossip.id) != 0)
		gossip_take_message(&message);
	gossip_message_free(&message);
}

/* ---- the connection ---- */

/* The database is there: everything is told and asked for. */
void
gossip_connect(void)
{
	if (!gossip.on)
		return;
	gossip.up = true;
	gossip.hello = true;
	gossip.hello_time = 0;
	gossip.all = true;
	gossip.all_time = 0;
	for (size_t i = 0; i < gossip.count; i++)
		peer_await(gossip.peers[i], GOSSIP_RETURN);
	gossip_plan();
}

/* The database is away. */
void
gossip_disconnect(void)
{
	gossip.up = false;
	gossip.telling = false;
	while (!TAILQ_EMPTY(&gossip.tell))
		gossip_remove(TAILQ_FIRST(&gossip.tell));
	for (size_t i = 0; i < gossip.count; i++)
		alarm_clear(&gossip.peers[i]->silence);
	timer_clear(&gossip.timer);
	timer_clear(&gossip.again);
}

/* ---- start and end ---- */

/* See the header. */
void
gossip_leave(int64_t back)
{
	gossip.leaving = true;
	gossip.back = back < GOSSIP_BACK_MOST ? back : GOSSIP_BACK_MOST;
	if (gossip.up)
		gossip_plan();
}

/* Have the others yet to be told, and can they be? */
bool
gossip_is_leaving(void)
{
	return gossip.up && gossip.leaving && !gossip.left;
}

/* Start; the shorter the grace, the sooner silence is noticed. */
void
gossip_start(int64_t grace)
{
	unsigned char id[GOSSIP_ID_LEN / 2];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		log_fatal("no random numbers");
	for (size_t i = 0; i < sizeof(id); i++)
		sprintf(gossip.id + 2 * i, "%02x", id[i]);
	gossip.every = grace < GOSSIP_EVERY_LEAST ? GOSSIP_EVERY_LEAST : grace;
	gossip.every = gossip.every < GOSSIP_EVERY ? gossip.every : GOSSIP_EVERY;
	TAILQ_INIT(&gossip.tell);
	gossip.on = true;
}

/* Stop; all clients are gone. */
void
gossip_stop(void)
{
	if (!gossip.on)
		return;
	gossip_disconnect();
	while (gossip.count > 0)
		peer_drop(gossip.peers[0], 0);
	gossip.on = false;
}

/*
 * roster.c
 *		Who is present in each stream, and what listeners are told of that.
 *
 * A user is present while any streamer holds it, and for the grace after: who
 * comes back within that has never left, as far as others are told.
 *
 * A listener's state is one number, the version of the roster that it has seen.
 * Frames of the latest changes are kept, and shared by all; who is new or lacks
 * more than those gets the list instead, rendered once a version.  So what a slow
 * client has been sent in the end is right, however much it has missed, and no
 * more changes are kept than there are users: beyond that, the list is shorter.
 * Nothing is kept, nor rendered, where nobody listens.
 *
 * The list of many is long, and whoever takes it slowly keeps it in memory; so
 * one is given to all who come while the changes since are kept, which follow it.
 *
 * All of it is bounded, and what one user takes of it: else who may read streams
 * of any name would need no more than one token to leave no room for others.
 *
 * Streamers that hold a user under different names agree on the one that was
 * taken last, by the clocks of their machines.
 *
 * Pure: no libpq, no libmicrohttpd.
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "problem.h"
#include "roster.h"

#define CHANGES_LEAST 16  /* that are kept at most, in a roster of few */
#define CHANGES_MOST  256 /* and of many */
#define LIST_FRESH    100 /* users, up to which the list is always as of now */
#define ARRAY_FIRST   8

#define REFUSED_LOG_INTERVAL 60000

/* Who is a user of one roster or of several. */
typedef struct Person
{
	size_t rosters;
	char id[];
} Person;

static struct
{
	const RosterHooks *hooks;
	int64_t grace;
	void *by_key; /* a tree of tsearch */
	void *by_id;  /* likewise, of persons */
	size_t users;
	size_t holds;
	int64_t refused_log; /* when it was logged that there was no room; 0: never */
} rosters;

/* ---- rosters ---- */

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The roster of this key, or NULL. */
static Roster *
roster_of(const char *key)
{
	char **found = tfind(key, &rosters.by_key, compare_texts);

	return found != NULL ? (Roster *) (void *) (*found - offsetof(Roster, key)) : NULL;
}

/* The same, made if there is none. */
static Roster *
roster_get(const char *key)
{
	Roster *roster = roster_of(key);

	if (roster != NULL)
		return roster;
	roster = mem_zero(sizeof(Roster) + strlen(key) + 1);
	strcpy(roster->key, key);
	roster->version = 1;
	if (tsearch(roster->key, &rosters.by_key, compare_texts) == NULL)
		log_fatal("out of memory");
	return roster;
}

/* Drop the oldest of the changes that are kept. */
static void
roster_drop_changes(Roster *roster, size_t count)
{
	for (size_t i = 0; i < count; i++)
		frame_unref(roster->changes[i]);
	roster->change_count -= count;
	memmove(roster->changes, roster->changes + count, roster->change_count * sizeof(Frame *));
}

/* Keep nothing for listeners any more. */
static void
roster_drop_frames(Roster *roster)
{
	if (roster->change_count > 0)
		roster_drop_changes(roster, roster->change_count);
	free(roster->changes);
	roster->changes = NULL;
	roster->change_size = 0;
	frame_unref(roster->list);
	roster->list = NULL;
}

/* Free a roster that nobody needs. */
static void
roster_tidy(Roster *roster)
{
	if (roster->count > 0 || roster->listeners > 0)
		return;
	tdelete(roster->key, &rosters.by_key, compare_texts);
	free(roster->users);
	free(roster);
}

/* ---- what listeners are told ---- */

/* The time, as events have it. */
static void
timestamp_format(char *out, size_t size)
{
	struct timespec now;
	struct tm parts;
	char seconds[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(out, size, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

/* The event that a user has come, or gone. */
static Frame *
change_frame(const User *user, const char *status)
{
	static const char type[] = "presence";
	char timestamp[64];
	Frame *frame;
	Buf data;

	timestamp_format(timestamp, sizeof(timestamp));
	buf_init(&data);
	buf_format(&data, "{\"type\":\"%s\",\"timestamp\":\"%s\",\"status\":\"%s\",%s", type, timestamp,
			   status, user->json + 1);
	frame = frame_event(0, type, strlen(type), data.data, data.len, false);
	buf_free(&data);
	return frame;
}

/* The event that tells of all users at once. */
static Frame *
list_frame(const Roster *roster)
{
	static const char type[] = "presence-list";
	Frame *frame;
	Buf data;

	buf_init(&data);
	buf_text(&data, "{\"users\":[");
	for (size_t i = 0; i < roster->count; i++)
	{
		if (i > 0)
			buf_text(&data, ",");
		buf_text(&data, roster->users[i]->json);
	}
	buf_text(&data, "]}");
	frame = frame_event(0, type, strlen(type), data.data, data.len, false);
	buf_free(&data);
	return frame;
}

/* A user has come, taken another name, or gone. */
static void
roster_change(const User *user, const char *status)
{
	Roster *roster = user->roster;
	size_t most = roster->count < CHANGES_MOST ? roster->count : CHANGES_MOST;

	roster->version++;
	if (roster->listeners == 0)
		return;
	most = most > CHANGES_LEAST ? most : CHANGES_LEAST;
	if (roster->change_count >= most)
		roster_drop_changes(roster, roster->change_count - most / 2);
	if (roster->change_count == roster->change_size)
	{
		roster->change_size = roster->change_size == 0 ? ARRAY_FIRST : roster->change_size * 2;
		roster->changes = mem_array(roster->changes, roster->change_size, sizeof(Frame *));
	}
	roster->changes[roster->change_count++] = change_frame(user, status);
	rosters.hooks->changed(roster);
}

/* Is the list as of now, or soon enough with the changes that are kept? */
static bool
list_is_good(const Roster *roster)
{
	uint64_t age = roster->version - roster->list_version;

	return roster->list != NULL && age <= (roster->count > LIST_FRESH ? roster->change_count : 0);
}

/*
 * What comes next for a listener who has seen this version, 0 being none: the
 * next change if it is kept, or else the list.  NULL if there is nothing.
 */
Frame *
roster_next(Roster *roster, uint64_t *seen)
{
	uint64_t lacking = roster->version - *seen;

	if (lacking == 0)
		return NULL;
	if (*seen > 0 && lacking <= roster->change_count)
	{
		++*seen;
		return frame_ref(roster->changes[roster->change_count - lacking]);
	}
	if (!list_is_good(roster))
	{
		frame_unref(roster->list);
		roster->list = list_frame(roster);
		roster->list_version = roster->version;
	}
	*seen = roster->list_version;
	return frame_ref(roster->list);
}

/* Somebody listens; roster_leave ends it. */
Roster *
roster_listen(const char *key)
{
	Roster *roster = roster_get(key);

	roster->listeners++;
	return roster;
}

/* Somebody listens no more. */
void
roster_leave(Roster *roster)
{
	if (--roster->listeners > 0)
		return;
	roster_drop_frames(roster);
	roster_tidy(roster);
}

/* ---- persons ---- */

/* The person of this id, or NULL. */
static Person *
person_of(const char *id)
{
	char **found = tfind(id, &rosters.by_id, compare_texts);

	return found != NULL ? (Person *) (void *) (*found - offsetof(Person, id)) : NULL;
}

/* In one roster more; person_leave ends it. */
static Person *
person_enter(const char *id)
{
	Person *person = person_of(id);

	if (person == NULL)
	{
		person = mem_zero(sizeof(Person) + strlen(id) + 1);
		strcpy(person->id, id);
		if (tsearch(person->id, &rosters.by_id, compare_texts) == NULL)
			log_fatal("out of memory");
	}
	person->rosters++;
	return person;
}

/* In one less. */
static void
person_leave(Person *person)
{
	if (--person->rosters > 0)
		return;
	tdelete(person->id, &rosters.by_id, compare_texts);
	free(person);
}

/* ---- users ---- */

/* Where a user's place is, or would be. */
static size_t
user_place(const Roster *roster, const char *id)
{
	size_t low = 0;
	size_t high = roster->count;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (strcmp(roster->users[middle]->id, id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The user of this id, or NULL. */
static User *
user_find(const Roster *roster, const char *id)
{
	size_t place = user_place(roster, id);

	if (place < roster->count && strcmp(roster->users[place]->id, id) == 0)
		return roster->users[place];
	return NULL;
}

/* Make a user, whom nobody holds yet. */
static User *
user_new(Roster *roster, const char *id)
{
	User *user = mem_zero(sizeof(User) + strlen(id) + 1);
	size_t place = user_place(roster, id);

	strcpy(user->id, id);
	user->roster = roster;
	user->person = person_enter(id);
	if (roster->count == roster->size)
	{
		roster->size = roster->size == 0 ? ARRAY_FIRST : roster->size * 2;
		roster->users = mem_array(roster->users, roster->size, sizeof(User *));
	}
	memmove(roster->users + place + 1, roster->users + place,
			(roster->count - place) * sizeof(User *));
	roster->users[place] = user;
	roster->count++;
	rosters.users++;
	return user;
}

/* Is there room for one more, in the roster if there is one, in all, and of this id? */
static bool
user_has_room(const Roster *roster, const char *id)
{
	const Person *person = person_of(id);

	return rosters.users < ROSTERS_MAX && (roster == NULL || roster->count < ROSTER_USERS_MAX) &&
		   (person == NULL || person->rosters < ROSTER_MINE_MAX);
}

/* The user of this id, made if there is none; NULL: there is no room for one. */
static User *
user_get(const char *key, const char *id)
{
	Roster *roster = roster_of(key);
	User *user = roster != NULL ? user_find(roster, id) : NULL;

	if (user != NULL)
		return user;
	return user_has_room(roster, id) ? user_new(roster_get(key), id) : NULL;
}

/* Free a user, who is in no roster any more. */
static void
user_free(User *user)
{
	rosters.hooks->forget(user);
	alarm_clear(&user->leave);
	person_leave(user->person);
	rosters.users--;
	free(user->json);
	free(user);
}

/* The grace is over. */
static void
user_on_leave(void *arg)
{
	User *user = arg;
	Roster *roster = user->roster;
	size_t place = user_place(roster, user->id);

	roster_change(user, "offline");
	roster->count--;
	memmove(roster->users + place, roster->users + place + 1,
			(roster->count - place) * sizeof(User *));
	user_free(user);
	roster_tidy(roster);
}

/* The hold whose name holds good; NULL: there is none. */
static const Hold *
user_best_hold(const User *user)
{
	const Hold *best = NULL;
	const Hold *hold;

	LIST_FOREACH(hold, &user->holds, user_link)
	{
		if (best == NULL || hold->since > best->since ||
			(hold->since == best->since && strcmp(hold->name, best->name) > 0))
			best = hold;
	}
	return best;
}

/* Tell of the user, if its name is another, or it is new. */
static void
user_show(User *user)
{
	const Hold *best = user_best_hold(user);
	Buf json;

	if (best == NULL)
		return;
	buf_init(&json);
	buf_text(&json, "{\"userId\":");
	json_add_string(&json, user->id);
	buf_text(&json, ",\"userName\":");
	json_add_string(&json, best->name);
	buf_text(&json, "}");
	if (user->json != NULL && strcmp(json.data, user->json) == 0)
	{
		buf_free(&json);
		return;
	}
	free(user->json);
	user->json = mem_string(json.data);
	buf_free(&json);
	roster_change(user, "online");
}

/* ---- holds ---- */

/* What the holder says of the user, or NULL. */
Hold *
user_hold(const User *user, const Holder *holder)
{
	Hold *hold;

	LIST_FOREACH(hold, &user->holds, user_link)
	{
		if (hold->holder == holder)
			return hold;
	}
	return NULL;
}

/* The same, by names. */
Hold *
roster_find(const Holder *holder, const char *key, const char *id)
{
	const Roster *roster = roster_of(key);
	const User *user = roster != NULL ? user_find(roster, id) : NULL;

	return user != NULL ? user_hold(user, holder) : NULL;
}

/* Make a hold; the name is yet to be set. */
static Hold *
hold_new(Holder *holder, User *user)
{
	Hold *hold = mem_zero(sizeof(Hold));

	hold->holder = holder;
	hold->user = user;
	LIST_INSERT_HEAD(&holder->holds, hold, holder_link);
	LIST_INSERT_HEAD(&user->holds, hold, user_link);
	alarm_clear(&user->leave);
	rosters.holds++;
	return hold;
}

/* The holder says that the user is present, by this name since then; NULL: there is no room. */
Hold *
roster_hold(Holder *holder, const char *key, const char *id, const char *name, int64_t since)
{
	Hold *hold = roster_find(holder, key, id);
	User *user;

	if (hold == NULL)
	{
		user = rosters.holds < HOLDS_MAX ? user_get(key, id) : NULL;
		if (user == NULL)
			return NULL;
		hold = hold_new(holder, user);
	}
	free(hold->name);
	hold->name = mem_string(name);
	hold->since = since;
	user_show(hold->user);
	return hold;
}

/* Somebody is not shown, for there is no room. */
void
roster_refused(void)
{
	metric_add(METRIC_PRESENCE_OVERFLOWS, 1);
	if (rosters.refused_log != 0 && loop_now() - rosters.refused_log < REFUSED_LOG_INTERVAL)
		return;
	rosters.refused_log = loop_now();
	log_warning("not all are shown who are present: there are too many, or one is in too many "
				"streams (%zu in all streams)",
				rosters.users);
}

/* It says so no more: unless somebody does within the grace and this much more, the user leaves. */
void
roster_release(Hold *hold, int64_t more)
{
	User *user = hold->user;

	LIST_REMOVE(hold, holder_link);
	LIST_REMOVE(hold, user_link);
	free(hold->name);
	free(hold);
	rosters.holds--;
	if (LIST_EMPTY(&user->holds))
		alarm_set(&user->leave, loop_now() + rosters.grace + more, user_on_leave, user);
	else
		user_show(user);
}

/* The holder has gone. */
void
roster_release_all(Holder *holder, int64_t more)
{
	while (!LIST_EMPTY(&holder->holds))
		roster_release(LIST_FIRST(&holder->holds), more);
}

/* ---- start and end ---- */

/* Start with nobody; the grace is in milliseconds. */
void
roster_init(const RosterHooks *hooks, int64_t grace)
{
	rosters.hooks = hooks;
	rosters.grace = grace;
}

/* Free a roster with its users. */
static void
roster_free(void *arg)
{
	Roster *roster = (Roster *) (void *) ((char *) arg - offsetof(Roster, key));

	for (size_t i = 0; i < roster->count; i++)
		user_free(roster->users[i]);
	free(roster->users);
	free(roster);
}

/* Forget everybody; nobody listens, and nobody is held. */
void
roster_close(void)
{
	tdestroy(rosters.by_key, roster_free);
	rosters.by_key = NULL;
}

/* How many users are present, in all streams? */
size_t
roster_users(void)
{
	return rosters.users;
}

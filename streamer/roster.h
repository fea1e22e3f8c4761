/*
 * roster.h
 *		Who is present in each stream, and what listeners are told of that.
 */
#ifndef PEV_ROSTER_H
#define PEV_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "alarm.h"
#include "frame.h"

#define ROSTER_ID_MAX    128    /* bytes of a user's id */
#define ROSTER_NAME_MAX  200    /* bytes of a user's name */
#define ROSTER_USERS_MAX 10000  /* in one roster */
#define ROSTER_MINE_MAX  256    /* rosters that have one and the same user */
#define ROSTERS_MAX      100000 /* users in all rosters together */
#define HOLDS_MAX        (2 * ROSTERS_MAX)

struct Hold;
struct Person;
struct Roster;
struct Stream;

/* Who says that users are present: this streamer, or another.  Zeroed at first. */
typedef struct Holder
{
	LIST_HEAD(, Hold) holds;
} Holder;

/* Somebody who is present, or was a moment ago.  The roster's; freed some time after the last hold. */
typedef struct User
{
	struct Roster *roster;
	struct Person *person;
	LIST_HEAD(, Hold) holds;
	char *json;  /* as it stands in the list */
	Alarm leave; /* set while nobody holds it */

	bool untold; /* gossip.c's: other streamers are to be told how it is held here */
	TAILQ_ENTRY(User) untold_link;

	char id[];
} User;

TAILQ_HEAD(UserList, User);

/* What a holder says about a user; roster_release ends it. */
typedef struct Hold
{
	Holder *holder;
	User *user;
	char *name;
	int64_t since; /* milliseconds of Unix time: when the user took the name */
	LIST_ENTRY(Hold) holder_link;
	LIST_ENTRY(Hold) user_link;

	size_t connections; /* presence.c's: of the user here */
	bool doubted;       /* gossip.c's: its holder has begun to tell all, and not told this yet */
} Hold;

/* The users of a stream, while there are any or somebody listens. */
typedef struct Roster
{
	User **users; /* by id */
	size_t count;
	size_t size;
	size_t listeners;

	uint64_t version; /* counts changes, from 1 */
	Frame **changes;  /* the latest ones, up to the version */
	size_t change_count;
	size_t change_size;
	Frame *list; /* of all users at list_version; NULL: nobody has asked for it */
	uint64_t list_version;

	struct Stream *stream; /* presence.c's: while somebody listens */
	Alarm wake;            /* likewise: set while listeners are to be told of changes */

	char key[];
} Roster;

/* How those are told who wait for it. */
typedef struct RosterHooks
{
	void (*changed)(Roster *roster); /* which has listeners */
	void (*forget)(User *user);      /* it is about to be freed */
} RosterHooks;

extern void roster_init(const RosterHooks *hooks, int64_t grace);
extern void roster_close(void);
extern size_t roster_users(void);
extern Roster *roster_listen(const char *key);
extern void roster_leave(Roster *roster);
extern Hold *roster_hold(Holder *holder, const char *key, const char *id, const char *name,
						 int64_t since);
extern Hold *roster_find(const Holder *holder, const char *key, const char *id);
extern Hold *user_hold(const User *user, const Holder *holder);
extern void roster_refused(void);
extern void roster_release(Hold *hold, int64_t more);
extern void roster_release_all(Holder *holder, int64_t more);
extern Frame *roster_next(Roster *roster, uint64_t *seen);

#endif

/*
 * revoked.c
 *		Tokens that have been revoked before they expire.
 *
 * All of them are kept here, by id, so that verifying a token asks nobody.  The
 * truth is the extension's table.  A notification on channel pev_revoked says
 * that it has grown, but anybody may send one; so whatever it says, the table is
 * read: the rows of transactions that the last reading may not have seen.  It is
 * read from the beginning after every connect, before anything else is, and now
 * and then without a notification.
 *
 * What has been revoked stays so until it expires, whatever becomes of its row.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db.h"
#include "grant.h"
#include "hash.h"
#include "mem.h"
#include "revoked.h"

#define REVOKED_BUCKETS_FIRST 64
#define XACT_TEXT_MAX         24

typedef struct Revoked
{
	struct Revoked *next;
	int64_t expires; /* seconds of Unix time */
	char id[];
} Revoked;

static struct
{
	size_t count;
	size_t size; /* a power of two */
	Revoked **buckets;
	bool wanted;
	bool grown;                   /* by the reading under way */
	char seen[XACT_TEXT_MAX];     /* transactions before this one have been seen */
	char snapshot[XACT_TEXT_MAX]; /* the same, by the reading under way */
} revoked;

/* The bucket of an id. */
static Revoked **
revoked_bucket(const char *id)
{
	uint64_t h = hash_finish(hash_bytes(HASH_START, id, strlen(id)));

	return &revoked.buckets[(size_t) h & (revoked.size - 1)];
}

/* The entry of an id, or NULL. */
static Revoked *
revoked_find(const char *id)
{
	Revoked *entry = revoked.size > 0 ? *revoked_bucket(id) : NULL;

	while (entry != NULL && strcmp(entry->id, id) != 0)
		entry = entry->next;
	return entry;
}

/* Is it revoked? */
bool
revoked_has(const char *id)
{
	return revoked_find(id) != NULL;
}

/* Put all entries that have not expired into so many buckets. */
static void
revoked_rehash(size_t size)
{
	Revoked **old = revoked.buckets;
	size_t old_size = revoked.size;
	int64_t now = (int64_t) time(NULL);

	revoked.buckets = mem_zero(size * sizeof(Revoked *));
	revoked.size = size;
	revoked.count = 0;
	for (size_t i = 0; i < old_size; i++)
		for (Revoked *entry = old[i], *next; entry != NULL; entry = next)
		{
			Revoked **bucket = revoked_bucket(entry->id);

			next = entry->next;
			if (entry->expires < now)
			{
				free(entry);
				continue;
			}
			entry->next = *bucket;
			*bucket = entry;
			revoked.count++;
		}
	free(old);
}

/* Add an id, or let it stay for longer. */
static void
revoked_add(const char *id, int64_t expires)
{
	Revoked *entry = revoked_find(id);
	Revoked **bucket;

	if (entry != NULL)
	{
		entry->expires = expires > entry->expires ? expires : entry->expires;
		return;
	}
	/* Full: make room, by forgetting those that have expired or else by growing. */
	if (revoked.count >= revoked.size)
		revoked_rehash(revoked.size);
	if (revoked.count >= revoked.size / 2)
		revoked_rehash(revoked.size * 2);
	entry = mem_alloc(sizeof(Revoked) + strlen(id) + 1);
	entry->expires = expires;
	strcpy(entry->id, id);
	bucket = revoked_bucket(id);
	entry->next = *bucket;
	*bucket = entry;
	revoked.count++;
	revoked.grown = true;
}

/* The table may have grown. */
void
revoked_want(void)
{
	revoked.wanted = true;
}

/* The connection is new: read from the beginning. */
void
revoked_start(void)
{
	if (revoked.buckets == NULL)
		revoked_rehash(REVOKED_BUCKETS_FIRST);
	strcpy(revoked.seen, "0");
	revoked.wanted = true;
}

/* Release everything. */
void
revoked_stop(void)
{
	for (size_t i = 0; i < revoked.size; i++)
		for (Revoked *entry = revoked.buckets[i], *next; entry != NULL; entry = next)
		{
			next = entry->next;
			free(entry);
		}
	free(revoked.buckets);
	revoked.buckets = NULL;
	revoked.size = 0;
	revoked.count = 0;
}

static void
revoked_on_row(const PGresult *row)
{
	snprintf(revoked.snapshot, sizeof(revoked.snapshot), "%s", PQgetvalue(row, 0, 0));
	if (!PQgetisnull(row, 0, 1))
		revoked_add(PQgetvalue(row, 0, 1), strtoll(PQgetvalue(row, 0, 2), NULL, 10));
}

static void
revoked_on_end(bool ok)
{
	if (ok)
		strcpy(revoked.seen, revoked.snapshot);
	if (revoked.grown)
		grants_end_revoked();
	revoked.grown = false;
}

/* Read what may be new. */
bool
revoked_send(void)
{
	const char *params[1] = {revoked.seen};

	if (!revoked.wanted)
		return false;
	revoked.wanted = false;
	db_send(DB_REVOKED, 1, params, revoked_on_row, revoked_on_end);
	return true;
}

/*
 * gossip_message.c
 *		What streamers of one database tell each other about who is present.
 *
 * A message is the payload of a notification, a JSON object:
 *
 *	{"from": ID, "n": 7, "every": 10000, "hello": true, "begin": true, "end": true,
 *	 "bye": 15000, "users": [[KEY, USER, NAME, SINCE], [KEY, USER], …]}
 *
 * Those of two have left the sender.  Anybody who may connect to the database may
 * send one, so a message is taken only if all of it is as it should be, and what
 * it holds is bounded.
 *
 * Pure: no libpq, no libmicrohttpd, no state.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "cursor.h"
#include "gossip_message.h"
#include "problem.h"
#include "roster.h"

#define HEAD_MAX   200                      /* bytes of all but the users */
#define NUMBER_MAX ((INT64_C(1) << 53) - 1) /* what every JSON parser can hold */

/* ---- reading ---- */

/* A number from 0 to most; false if there is none. */
static bool
take_number(const json_t *json, int64_t most, int64_t *number)
{
	*number = json_integer_value(json);
	return json_is_integer(json) && *number >= 0 && *number <= most;
}

/* Is it a string of 1 to most bytes? */
static bool
is_text(const json_t *json, size_t most)
{
	return json_is_string(json) && json_string_length(json) > 0 && json_string_length(json) <= most;
}

/* Is it a stream's key, in its canonical spelling? */
static bool
is_key(const json_t *json)
{
	StreamKey key;

	return is_text(json, STREAM_KEY_MAX) &&
		   stream_key_canonical(json_string_value(json), json_string_length(json), &key) == NULL &&
		   strcmp(key.text, json_string_value(json)) == 0;
}

/* Is it one of the users? */
static bool
is_user(const json_t *json)
{
	size_t size = json_array_size(json);
	int64_t since;

	return (size == 2 || size == 4) && is_key(json_array_get(json, 0)) &&
		   is_text(json_array_get(json, 1), ROSTER_ID_MAX) &&
		   (size == 2 || (is_text(json_array_get(json, 2), ROSTER_NAME_MAX) &&
						  take_number(json_array_get(json, 3), NUMBER_MAX, &since)));
}

/* Are the users all there, if any? */
static bool
users_are_valid(const json_t *users)
{
	size_t i;
	json_t *user;

	if (users != NULL && !json_is_array(users))
		return false;
	json_array_foreach((json_t *) (uintptr_t) users, i, user)
	{
		if (!is_user(user))
			return false;
	}
	return true;
}

/* Is it the id of a streamer?  Then take it. */
static bool
take_id(const json_t *json, char id[GOSSIP_ID_LEN + 1])
{
	const char *text = json_string_value(json);

	if (text == NULL || strlen(text) != GOSSIP_ID_LEN ||
		strspn(text, "0123456789abcdef") != GOSSIP_ID_LEN)
		return false;
	memcpy(id, text, GOSSIP_ID_LEN + 1);
	return true;
}

/* Take everything but the users. */
static bool
message_take(const json_t *json, GossipMessage *message)
{
	const json_t *bye = json_object_get(json, "bye");

	message->hello = json_is_true(json_object_get(json, "hello"));
	message->begin = json_is_true(json_object_get(json, "begin"));
	message->end = json_is_true(json_object_get(json, "end"));
	message->bye = bye != NULL;
	return take_id(json_object_get(json, "from"), message->from) &&
		   take_number(json_object_get(json, "n"), NUMBER_MAX, &message->number) &&
		   take_number(json_object_get(json, "every"), GOSSIP_EVERY_MOST, &message->every) &&
		   (bye == NULL || take_number(bye, GOSSIP_BACK_MOST, &message->back));
}

/* Read a message; false if it is none. */
bool
gossip_message_parse(const char *payload, GossipMessage *message)
{
	json_t *json = json_loadb(payload, strlen(payload), JSON_REJECT_DUPLICATES, NULL);

	*message = (GossipMessage){0};
	if (json_is_object(json) && message_take(json, message) &&
		users_are_valid(json_object_get(json, "users")))
	{
		message->json = json;
		return true;
	}
	json_decref(json);
	return false;
}

/* The user of this index, from 0; false if there are not so many. */
bool
gossip_message_user(const GossipMessage *message, size_t index, GossipUser *user)
{
	const json_t *json = json_array_get(json_object_get(message->json, "users"), index);

	if (json == NULL)
		return false;
	user->key = json_string_value(json_array_get(json, 0));
	user->id = json_string_value(json_array_get(json, 1));
	user->name = json_string_value(json_array_get(json, 2));
	user->since = json_integer_value(json_array_get(json, 3));
	return true;
}

/* Release what it holds. */
void
gossip_message_free(GossipMessage *message)
{
	json_decref(message->json);
	message->json = NULL;
}

/* ---- writing ---- */

/* Begin; gossip_draft_end ends it. */
void
gossip_draft_init(GossipDraft *draft)
{
	buf_init(&draft->users);
	draft->count = 0;
}

/* Add a user; false if there is no room for it, and then there is for what came before. */
bool
gossip_draft_add(GossipDraft *draft, const GossipUser *user)
{
	Buf *out = &draft->users;
	size_t before = out->len;

	buf_text(out, draft->count > 0 ? ",[" : "[");
	json_add_string(out, user->key);
	buf_text(out, ",");
	json_add_string(out, user->id);
	if (user->name != NULL)
	{
		buf_text(out, ",");
		json_add_string(out, user->name);
		buf_format(out, ",%" PRId64, user->since);
	}
	buf_text(out, "]");
	if (out->len <= GOSSIP_PAYLOAD_MAX - HEAD_MAX)
	{
		draft->count++;
		return true;
	}
	out->len = before;
	out->data[before] = '\0';
	return false;
}

/* Write the message with the users that were added. */
void
gossip_draft_end(GossipDraft *draft, const GossipMessage *message, Buf *payload)
{
	buf_format(payload, "{\"from\":\"%s\",\"n\":%" PRId64 ",\"every\":%" PRId64, message->from,
			   message->number, message->every);
	if (message->hello)
		buf_text(payload, ",\"hello\":true");
	if (message->begin)
		buf_text(payload, ",\"begin\":true");
	if (message->end)
		buf_text(payload, ",\"end\":true");
	if (message->bye)
		buf_format(payload, ",\"bye\":%" PRId64, message->back);
	if (draft->count > 0)
		buf_format(payload, ",\"users\":[%s]", draft->users.data);
	buf_text(payload, "}");
	buf_free(&draft->users);
}

/*
 * gossip_message.c
 *		Fuzz target: what streamers tell each other, which anybody may say.
 *
 * Whatever is read is bounded; written again, in as many messages as it takes, it
 * must be read as it was.
 */
#include "cursor.h"
#include "fuzz.h"
#include "gossip_message.h"
#include "roster.h"

/* The users are bounded, and the next of those that were written. */
static void
check_users(const GossipMessage *message, const GossipMessage *origin, size_t *next)
{
	GossipUser user;
	GossipUser other;

	for (size_t i = 0; gossip_message_user(message, i, &user); i++)
	{
		must(gossip_message_user(origin, (*next)++, &other), "no more users");
		must(strlen(user.key) <= STREAM_KEY_MAX && *user.key != '\0', "a key");
		must(strlen(user.id) <= ROSTER_ID_MAX && *user.id != '\0', "an id");
		must(strcmp(user.key, other.key) == 0 && strcmp(user.id, other.id) == 0, "the same user");
		must((user.name == NULL) == (other.name == NULL), "present, or not");
		if (user.name == NULL)
			continue;
		must(strlen(user.name) <= ROSTER_NAME_MAX && *user.name != '\0', "a name");
		must(strcmp(user.name, other.name) == 0, "the same name");
		must(user.since >= 0 && user.since == other.since, "the same time");
	}
}

/* One message of some of the users. */
static void
check_written(const GossipMessage *origin, size_t *written, size_t *read)
{
	GossipMessage message;
	GossipDraft draft;
	GossipUser user;
	Buf payload;

	buf_init(&payload);
	gossip_draft_init(&draft);
	while (gossip_message_user(origin, *written, &user) && gossip_draft_add(&draft, &user))
		++*written;
	gossip_draft_end(&draft, origin, &payload);
	must(payload.len <= GOSSIP_PAYLOAD_MAX, "small enough");
	must(gossip_message_parse(payload.data, &message), "what was written is read");
	must(strcmp(message.from, origin->from) == 0 && message.number == origin->number &&
			 message.every == origin->every && message.hello == origin->hello &&
			 message.begin == origin->begin && message.end == origin->end &&
			 message.bye == origin->bye && message.back == origin->back,
		 "the same message");
	check_users(&message, origin, read);
	must(*read == *written, "all that was written");
	gossip_message_free(&message);
	buf_free(&payload);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *payload = take_line(&bytes, &len);
	GossipMessage message;
	GossipUser user;
	size_t written = 0;
	size_t read = 0;

	if (gossip_message_parse(payload, &message))
	{
		do
			check_written(&message, &written, &read);
		while (gossip_message_user(&message, written, &user));
		gossip_message_free(&message);
	}
	free(payload);
	return 0;
}

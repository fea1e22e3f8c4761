/*
 * access.c
 *		Who may listen to what, emit, and queue jobs.
 *
 * Without keys everybody may do everything; the configuration sees to it
 * that "everybody" is this machine, or that the operator insists.  With keys
 * nobody may, without a token or ticket that is valid: there is no way from one
 * to the other while the daemon runs.  Reloading either replaces all keys or, if
 * any is unusable, none.
 *
 * Health and readiness tell nothing worth hiding and are asked by machines
 * without tokens.  Metrics are for who may read every stream, unless the daemon
 * serves this machine alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "access.h"
#include "credential.h"
#include "db.h"
#include "grant.h"
#include "keys.h"
#include "log.h"
#include "metrics.h"
#include "rate.h"
#include "respond.h"
#include "revoked.h"
#include "ticket.h"

#define OWN_CHANNEL "user:{{sub}}" /* of jobs, unless they name another */

static const char denied_none[] =
	"A token is needed: in the header Authorization, in a cookie, or as the parameter token.";
static const char denied_revoked[] = "The token has been revoked.";
static const char denied_ticket[] =
	"The ticket is not for this stream, was not redeemed in time, or has expired.";
static const char denied_ticket_many[] =
	"A ticket is for one stream; several take a token that allows to read them all.";
static const char denied_ticket_use[] = "The ticket is in use.";

static struct
{
	const Config *config;
	bool required; /* a token is */
	TokenKeys keys;
	TokenPolicy policy;
} guard;

/* Load the keys.  The configuration stays the caller's; what is wrong goes to standard error. */
bool
access_start(const Config *config)
{
	char error[KEYS_ERROR_MAX];

	guard.config = config;
	guard.required = config_has_keys(config);
	guard.policy = (TokenPolicy){config->audience, config->issuer};
	grants_init();
	ticket_init();
	if (keys_load(config, &guard.keys, error))
		return true;
	fprintf(stderr, "pev-streamer: %s\n", error);
	return false;
}

/* Load the keys anew, and end the streams whose tokens none of them verifies any more. */
void
access_reload(void)
{
	TokenKeys keys;
	char error[KEYS_ERROR_MAX];

	if (!guard.required)
		return;
	if (!keys_load(guard.config, &keys, error))
	{
		log_error("SIGHUP: the keys stay as they were: %s", error);
		return;
	}
	token_keys_free(&guard.keys);
	guard.keys = keys;
	grants_end_unverified(&guard.keys);
	log_info("SIGHUP: %d keys loaded", guard.keys.count);
}

/* Wipe the keys; all clients are gone. */
void
access_stop(void)
{
	token_keys_free(&guard.keys);
	alarms_close();
	revoked_stop();
}

/* Refuse: 401 for who has no right to be here, 403 for who has none to this, 400 for nonsense. */
static enum MHD_Result
access_deny(Request *req, unsigned int status, const char *why)
{
	metric_add(status == MHD_HTTP_FORBIDDEN ? METRIC_DENIED_FORBIDDEN : METRIC_DENIED_UNAUTHORIZED,
			   1);
	log_write(LOG_DEBUG, req->client, "denied: %s", why);
	if (status == MHD_HTTP_FORBIDDEN)
		return respond_denied(req->conn, status, "Bearer error=\"insufficient_scope\"", why);
	/* who has sent no token has made no error (RFC 6750, section 3.1) */
	return respond_denied(req->conn, status,
						  why == denied_none ? "Bearer realm=\"pev\""
											 : "Bearer error=\"invalid_token\"",
						  why);
}

/* Look for a token in one header. */
static enum MHD_Result
access_on_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Credential *credential = arg;
	const char *cookie = guard.config->token_cookie;

	(void) kind;
	if (value != NULL && strcasecmp(name, "Authorization") == 0)
		credential_from_authorization(credential, value);
	else if (value != NULL && cookie != NULL && strcasecmp(name, "Cookie") == 0)
		credential_from_cookies(credential, value, cookie);
	return MHD_YES;
}

/* Take the token from a request; false: there is none, and the request is answered. */
static bool
access_take_credential(Request *req, Credential *credential, enum MHD_Result *answer)
{
	const char *query = strchr(req->target, '?');
	const char *error;

	*credential = (Credential){0};
	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, access_on_header, credential);
	error = credential_from_query(credential, query != NULL ? query + 1 : NULL);
	if (error != NULL)
		*answer = respond_bad(req->conn, error);
	else if (credential->ambiguous)
		*answer = respond_bad(req->conn, "The request holds two tokens that differ.");
	else if (credential->too_long)
		*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, "The token is longer than 8192 bytes.");
	else if (!credential->given)
		*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, denied_none);
	else
		return true;
	return false;
}

/* Verify a token; false: it is not valid, and the request is answered. */
static bool
access_verify(Request *req, const char *text, Token *token, enum MHD_Result *answer)
{
	struct timespec now;
	const char *error;

	/* not time(), which is some milliseconds late: a token could come back that has just expired */
	clock_gettime(CLOCK_REALTIME, &now);
	error = token_verify(&guard.keys, &guard.policy, text, (int64_t) now.tv_sec, token);
	if (error == NULL && token->id[0] != '\0' && revoked_has(token->id))
	{
		token_free(token);
		error = denied_revoked;
	}
	if (error != NULL)
		*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, error);
	return error == NULL;
}

/* The first of the streams that the token does not allow to read, or NULL. */
static const char *
access_find_forbidden(const Token *token, const Selection *selection)
{
	for (int i = 0; i < selection->count; i++)
		if (!token_allows(token, TOKEN_READ, selection->choices[i].key.text))
			return selection->choices[i].key.text;
	/* a path that names no stream is told to be wrong to those who may read all */
	if (selection->count == 0 && !selection->composite && !token_allows(token, TOKEN_READ, ""))
		return "";
	return NULL;
}

/* May the bearer of this token listen to these streams? */
static Access
access_check_token(Request *req, const char *text, const Selection *selection,
				   enum MHD_Result *answer)
{
	Token token;
	const char *forbidden;
	char why[STREAM_KEY_MAX + 64];

	if (!access_verify(req, text, &token, answer))
		return ACCESS_DENIED;
	forbidden = access_find_forbidden(&token, selection);
	if (forbidden == NULL)
		req->grant = grant_new_token(&token);
	token_free(&token);
	if (forbidden == NULL)
		return ACCESS_GRANTED;
	if (selection->composite)
		snprintf(why, sizeof(why), "The token does not allow to read the stream \"%s\".",
				 forbidden);
	else
		snprintf(why, sizeof(why), "The token does not allow to read this stream.");
	*answer = access_deny(req, MHD_HTTP_FORBIDDEN, why);
	return ACCESS_DENIED;
}

/* Can it be a reconnect, as EventSource does it by itself?  It may not have seen an event yet. */
static bool
request_may_be_reconnect(const Request *req)
{
	return request_wants_events(req) ||
		   MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, "Last-Event-ID") != NULL;
}

/* May this ticket be used now?  If so the database is asked, and the request waits. */
static Access
access_check_ticket(Request *req, const char *text, const StreamKey *key, enum MHD_Result *answer)
{
	unsigned char digest[TOKEN_DIGEST_LEN];
	Grant *holder;

	ticket_digest(text, digest);
	holder = grant_find_ticket(digest);
	if (holder != NULL && request_may_be_reconnect(req))
	{
		if (holder->sub != NULL)
			subscriber_probe(holder->sub);
		return ACCESS_IN_USE;
	}
	if (holder != NULL)
	{
		*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, denied_ticket_use);
		return ACCESS_DENIED;
	}
	if (!db_is_up())
		return ACCESS_UNKNOWN;
	req->grant = grant_new_ticket(digest);
	ticket_redeem(req, key->text);
	*answer = MHD_YES;
	return ACCESS_WAITING;
}

/* The database has been asked about the request's ticket. */
static Access
access_settle(Request *req, enum MHD_Result *answer)
{
	switch (req->grant->state)
	{
		case GRANT_VALID:
			return ACCESS_GRANTED;
		case GRANT_PENDING:
			return ACCESS_UNKNOWN;
		default:
			*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, denied_ticket);
			return ACCESS_DENIED;
	}
}

/*
 * May this client listen to the streams that it asks for?  If it may not to one,
 * then to none.  What is wrong with the selection is told only to who has a token
 * that is valid.
 */
Access
access_check_streams(Request *req, const Selection *selection, enum MHD_Result *answer)
{
	Credential credential;

	if (!guard.required)
		return ACCESS_GRANTED;
	if (req->grant != NULL)
		return access_settle(req, answer);
	if (!access_take_credential(req, &credential, answer))
		return ACCESS_DENIED;
	if (!ticket_is_one(credential.text))
		return access_check_token(req, credential.text, selection, answer);
	if (selection->count == 1)
		return access_check_ticket(req, credential.text, &selection->choices[0].key, answer);
	if (selection->count > 1)
		*answer = access_deny(req, MHD_HTTP_FORBIDDEN, denied_ticket_many);
	else
		*answer = access_deny(req, MHD_HTTP_UNAUTHORIZED, denied_ticket);
	return ACCESS_DENIED;
}

/* The valid token of who emits, or queues a job; false: there is none, and it is answered. */
static bool
access_take_token(Request *req, Token *token, Emitter *emitter, enum MHD_Result *answer)
{
	Credential credential;
	const char *subject;

	if (!access_take_credential(req, &credential, answer))
		return false;
	if (ticket_is_one(credential.text))
	{
		*answer =
			access_deny(req, MHD_HTTP_FORBIDDEN, "A ticket allows to read, and nothing else.");
		return false;
	}
	if (!access_verify(req, credential.text, token, answer))
		return false;
	subject = token_subject(token);
	emitter->named = subject != NULL;
	if (emitter->named)
		emitter->client = rate_client('s', subject, strlen(subject));
	return true;
}

/*
 * May this client emit to the stream?  If not, it is answered.  The key is empty
 * if the request names no stream, which is told to those who may emit to all.
 */
bool
access_check_emit(Request *req, const char *key, Emitter *emitter, enum MHD_Result *answer)
{
	Token token;
	bool allowed;

	*emitter = (Emitter){.everything = true};
	if (!guard.required)
		return true;
	if (!access_take_token(req, &token, emitter, answer))
		return false;
	allowed = token_allows(&token, TOKEN_EMIT, key);
	emitter->everything = token_allows(&token, TOKEN_EMIT, "");
	token_free(&token);
	if (!allowed)
		*answer = access_deny(req, MHD_HTTP_FORBIDDEN,
							  "The token does not allow to emit to this stream.");
	return allowed;
}

/*
 * May this client queue the job?  If not, it is answered.  A job whose request
 * names no channel gets that of the token's subject, if there is one.  The
 * results go to the channel, so whoever asks for them must be allowed to read
 * there.  If the request names no job at all, as the error says, that is told to
 * those who may queue what the path names, or all if it names none.
 */
bool
access_check_enqueue(Request *req, JobTarget *job, const char *error, Emitter *emitter,
					 enum MHD_Result *answer)
{
	Token token;
	const char *why = NULL;

	*emitter = (Emitter){0};
	if (!guard.required)
		return true;
	if (!access_take_token(req, &token, emitter, answer))
		return false;
	if (!job->has_channel)
		job->has_channel = token_own_stream(&token, OWN_CHANNEL, &job->channel);
	if (!token_allows_job(&token, job->kind))
		why = "The token does not allow to queue jobs of this kind.";
	else if (error == NULL && job->has_channel &&
			 !token_allows(&token, TOKEN_READ, job->channel.text))
		why = "The token does not allow to read the job's channel.";
	token_free(&token);
	if (why != NULL)
		*answer = access_deny(req, MHD_HTTP_FORBIDDEN, why);
	return why == NULL;
}

/* May this client read the metrics?  If not, it is answered. */
bool
access_check_metrics(Request *req, enum MHD_Result *answer)
{
	Credential credential;
	Token token;
	bool allowed;

	if (!guard.required || guard.config->listen.loopback)
		return true;
	if (!access_take_credential(req, &credential, answer) ||
		!access_verify(req, credential.text, &token, answer))
		return false;
	allowed = token_allows(&token, TOKEN_READ, "");
	token_free(&token);
	if (!allowed)
		*answer = access_deny(req, MHD_HTTP_FORBIDDEN,
							  "Metrics are for tokens that allow to read every stream.");
	return allowed;
}

/* The request has got its subscriber. */
void
access_attach(Request *req)
{
	if (req->grant != NULL)
		grant_attach(req->grant, req->sub);
}

/* Has it lost its right since? */
bool
access_is_withdrawn(const Request *req)
{
	return req->grant != NULL && req->grant->state != GRANT_VALID;
}

/* Tell it so. */
enum MHD_Result
access_answer_withdrawn(Request *req)
{
	return access_deny(req, MHD_HTTP_UNAUTHORIZED, denied_revoked);
}

/* The request is over. */
void
access_end(Request *req)
{
	if (req->grant != NULL)
		grant_free(req->grant);
	req->grant = NULL;
}

/*
 * access.h
 *		Who may listen to what, emit, and queue jobs.
 */
#ifndef PEV_ACCESS_H
#define PEV_ACCESS_H

#include "config.h"
#include "request.h"
#include "selection.h"

typedef enum Access
{
	ACCESS_GRANTED,
	ACCESS_DENIED,  /* answered */
	ACCESS_WAITING, /* suspended; the request is handled anew when the database has answered */
	ACCESS_UNKNOWN, /* the database is away and cannot be asked */
	ACCESS_IN_USE   /* the ticket is, by what may be the same client's old connection */
} Access;

/* Who emits, or queues a job. */
typedef struct Emitter
{
	bool everything; /* it may emit to all streams; not known of who queues a job */
	bool named;      /* its token has a subject */
	uint64_t client; /* of rate.c, if it is named */
} Emitter;

extern bool access_start(const Config *config);
extern void access_reload(void);
extern void access_stop(void);
extern Access access_check_streams(Request *req, const Selection *selection,
								   enum MHD_Result *answer);
extern bool access_check_emit(Request *req, const char *key, Emitter *emitter,
							  enum MHD_Result *answer);
extern bool access_check_enqueue(Request *req, JobTarget *job, const char *error, Emitter *emitter,
								 enum MHD_Result *answer);
extern bool access_check_metrics(Request *req, enum MHD_Result *answer);
extern void access_attach(Request *req);
extern bool access_is_withdrawn(const Request *req);
extern enum MHD_Result access_answer_withdrawn(Request *req);
extern void access_end(Request *req);

#endif

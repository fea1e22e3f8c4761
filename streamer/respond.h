/*
 * respond.h
 *		Responses: problems, small documents, no content, and what streams have in common.
 */
#ifndef PEV_RESPOND_H
#define PEV_RESPOND_H

#include <microhttpd.h>

#include "request.h"

extern void respond_header(struct MHD_Response *response, const char *name, const char *value);
extern struct MHD_Response *respond_text(const char *type, const char *body);
extern struct MHD_Response *respond_by_reader(Request *req, MHD_ContentReaderCallback reader);
extern enum MHD_Result respond_send(struct MHD_Connection *conn, unsigned int status,
									struct MHD_Response *response);
extern enum MHD_Result respond_bad(struct MHD_Connection *conn, const char *detail);
extern enum MHD_Result respond_wrong(struct MHD_Connection *conn, unsigned int status,
									 const char *detail);
extern enum MHD_Result respond_problem_body(struct MHD_Connection *conn, unsigned int status,
											const char *body, unsigned int ms);
extern enum MHD_Result respond_malformed(struct MHD_Connection *conn, const char *detail);
extern enum MHD_Result respond_not_found(struct MHD_Connection *conn);
extern enum MHD_Result respond_bad_method(struct MHD_Connection *conn, const char *allow);
extern enum MHD_Result respond_denied(struct MHD_Connection *conn, unsigned int status,
									  const char *challenge, const char *why);
extern enum MHD_Result respond_busy(struct MHD_Connection *conn, unsigned int status,
									const char *why, unsigned int ms);
extern enum MHD_Result respond_options(struct MHD_Connection *conn, const char *allow);
extern enum MHD_Result respond_json(struct MHD_Connection *conn, unsigned int status,
									const char *body);

#endif

/*
 * export.h
 *		Requests for the events of a stream as a file.
 */
#ifndef PEV_EXPORT_H
#define PEV_EXPORT_H

#include "config.h"
#include "request.h"

extern void export_start(const Config *config);
extern void export_stop(void);
extern enum MHD_Result export_request(Request *req);
extern enum MHD_Result export_continue(Request *req);
extern void export_end(Request *req, enum MHD_RequestTerminationCode code);

#endif

/*
 * status.h
 *		What operators and their machines ask: health, readiness, metrics.
 */
#ifndef PEV_STATUS_H
#define PEV_STATUS_H

#include "request.h"

extern enum MHD_Result status_healthz(Request *req);
extern enum MHD_Result status_readyz(Request *req);
extern enum MHD_Result status_metrics(Request *req);

#endif

/*
 * heads.h
 *		Where streams stand, in shared memory.
 */
#ifndef PEV_HEADS_H
#define PEV_HEADS_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

/* What has to be known of a stream's last event to number the next one. */
typedef struct StreamHead
{
	int64 seq; /* 0: the stream has no event */
	TimestampTz created_at;
	Oid closed_by; /* the type of the event, if it closed the stream */
} StreamHead;

extern uint64 heads_now(void);
extern bool heads_get(Relation events, int64 stream, StreamHead *head);
extern void heads_put(Oid file, int64 stream, uint64 learned, const StreamHead *head);
extern void heads_remove(Oid file, int64 stream);
extern void heads_distrust(void);
extern void heads_invalidate(void);
extern Size heads_shmem_size(void);
extern void heads_shmem_start(void);
extern void heads_init(void);

#endif /* PEV_HEADS_H */

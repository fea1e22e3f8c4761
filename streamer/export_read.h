/*
 * export_read.h
 *		Exports, and the connection to PostgreSQL by which their events are read.
 */
#ifndef PEV_EXPORT_READ_H
#define PEV_EXPORT_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "export_query.h"
#include "gzip.h"

typedef enum ExportState
{
	EXPORT_OPENING, /* its stream is being looked up */
	EXPORT_OPEN,    /* nothing is being read; more can be */
	EXPORT_READING, /* a page is, or waits to be */
	EXPORT_WHOLE,   /* everything has been read */
	EXPORT_FAILED,
	EXPORT_STATES
} ExportState;

/* Made by export_new, which export_read_open follows; ended by export_free, at any time. */
typedef struct Export
{
	ExportState state;
	StreamKey key;
	ExportQuery query;
	bool found;                             /* there are events in the stream */
	char *bad_type;                         /* a type of the query that does not exist, or NULL */
	int64_t id;                             /* the stream's */
	int64_t read;                           /* the number up to which events have been read */
	int64_t last;                           /* the number up to which they are wanted */
	int64_t rows;                           /* to be read next */
	bool empty;                             /* no event has been written */
	bool begun;                             /* its response has */
	bool left;                              /* its client has */
	bool waiting;                           /* its connection is suspended */
	Gzip *gzip;                             /* NULL: not compressed */
	Buf plain;                              /* what is to be compressed */
	Buf page;                               /* what is to be sent */
	size_t sent;                            /* of that */
	void (*changed)(struct Export *export); /* the state, or there is more to be sent */
	uint64_t network[2];                    /* of its client, as peer_network tells it */
	void *owner;
	TAILQ_ENTRY(Export) link;
	TAILQ_ENTRY(Export) queue_link; /* while it waits for the connection */
} Export;

TAILQ_HEAD(ExportList, Export);

/* The key and the query, which is taken over; changed may be called before the function returns. */
extern Export *export_new(const StreamKey *key, ExportQuery *query, bool gzip,
						  void (*changed)(Export *export), void *owner);
extern void export_free(Export *export);
extern void export_read_open(Export *export);
extern void export_read_page(Export *export);
extern void export_fail(Export *export);
extern struct ExportList *export_all(void);
extern size_t export_count(void);
extern void export_read_start(const char *dsn);
extern void export_read_stop(void);

#endif

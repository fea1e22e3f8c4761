/*
 * turn.h
 *		A stream's turn: who may add the next event.
 */
#ifndef PEV_TURN_H
#define PEV_TURN_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/relcache.h"

#include "catalog.h"
#include "heads.h"

/* A stream this transaction may write to.  Lives until the transaction ends. */
typedef struct StreamTurn
{
	int64 stream;                /* the hash key */
	StreamHead head;             /* of the last number given out */
	int64 confirmed;             /* the last number whose row is known to be stored */
	bool known;                  /* the two above hold; else the table must be asked */
	uint64 generation;           /* of the catalogue that it was asked with */
	uint64 learned;              /* when that was, on the clock of heads.c */
	Oid file;                    /* which the table was in */
	CommandId command;           /* that gave out the last number */
	int64 owed;                  /* a number whose row must come: see turn_owe(); 0: none */
	Oid events;                  /* where it must, */
	Oid index;                   /* and how it is found there */
	SubTransactionId owed_in;    /* the subtransaction that gave it out */
	SubTransactionId locked_in;  /* the subtransaction that holds the lock */
	SubTransactionId touched_in; /* the innermost one that changed anything here */
	dlist_node node;             /* in the list of turns, last touched first */
} StreamTurn;

extern StreamTurn *turn_take(const PevCatalog *catalog, Relation events, int64 stream,
							 bool settled);
extern bool turn_try(int64 stream);
extern int64 turn_next(StreamTurn *turn, const EventType *type, bool closes);
extern void turn_peek(const PevCatalog *catalog, Relation events, int64 stream, StreamTurn *turn);
extern void turn_import(int64 stream);
extern void turn_owe(const PevCatalog *catalog, Relation events, StreamTurn *turn);
extern void turn_confirm(int64 stream, int64 seq);
extern void turn_settle(int64 stream, int64 seq);
extern bool turn_last_event(const PevCatalog *catalog, Relation events, int64 stream, int64 *seq);
extern void turn_lock_key(uint64 hash);
extern void turn_init(void);

#endif /* PEV_TURN_H */

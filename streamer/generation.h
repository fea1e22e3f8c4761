/*
 * generation.h
 *		What is different about the stream of a generation.
 */
#ifndef PEV_GENERATION_H
#define PEV_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

struct Subscriber;

/* What a subscriber has in addition.  It makes one with generation_new. */
typedef struct Generation Generation;

extern void generations_init(int64_t idle_timeout);
extern void generations_trust(bool known);
extern Generation *generation_new(struct Subscriber *sub);
extern void generation_wait(Generation *generation);
extern bool generation_takes(Generation *generation, const Frame *frame, bool of_stream);
extern Frame *generation_farewell(const Generation *generation);
extern void generation_free(Generation *generation);

#endif

/*
 * token.h
 *		Tokens and tickets, with which clients are admitted to the streamer.
 */
#ifndef PEV_TOKEN_H
#define PEV_TOKEN_H

extern void token_init(void);

#endif /* PEV_TOKEN_H */

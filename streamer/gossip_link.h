/*
 * gossip_link.h
 *		The connection to PostgreSQL by which streamers tell each other who is present.
 */
#ifndef PEV_GOSSIP_LINK_H
#define PEV_GOSSIP_LINK_H

extern void gossip_link_start(const char *dsn);
extern void gossip_link_stop(void);
extern void gossip_link_pump(void);

#endif

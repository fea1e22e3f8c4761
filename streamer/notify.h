/*
 * notify.h
 *		What systemd is told of the daemon, where it runs under systemd.
 */
#ifndef PEV_NOTIFY_H
#define PEV_NOTIFY_H

#include <stdint.h>

extern void notify_start(void);
extern void notify_stop(void);
extern void notify_ready(void);
extern void notify_reloading(void);
extern void notify_stopping(int64_t most);
extern void notify_status(const char *trouble);

#endif

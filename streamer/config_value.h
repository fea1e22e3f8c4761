/*
 * config_value.h
 *		How the values of options are written.
 */
#ifndef PEV_CONFIG_VALUE_H
#define PEV_CONFIG_VALUE_H

#include "config.h"

#define KIB  INT64_C(1024)
#define MIB  (1024 * KIB)
#define GIB  (1024 * MIB)
#define SEC  INT64_C(1000)
#define MIN  (60 * SEC)
#define HOUR (60 * MIN)

typedef struct Unit
{
	const char *name; /* NULL after the last */
	int64_t factor;
} Unit;

extern const Unit duration_units[];
extern const Unit size_units[];
extern const Unit count_units[];

extern const char *quantity_format(char *out, size_t size, const Unit *units, int64_t value);
extern bool quantity_parse(const char *text, const Unit *units, int64_t *value);
extern bool listen_parse(const char *text, ListenAddress *listen);
extern bool level_parse(const char *text, LogLevel *level);
extern bool flag_parse(const char *text, bool *value);
extern bool cookie_name_is_valid(const char *text);
extern bool kind_is_valid(const char *text);
extern bool list_add(StringList *list, const char *value, size_t len);
extern void list_free(StringList *list);

#endif

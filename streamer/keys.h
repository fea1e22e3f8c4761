/*
 * keys.h
 *		Keys that tokens are verified with, read from files.
 */
#ifndef PEV_KEYS_H
#define PEV_KEYS_H

#include "config.h"
#include "token.h"

#define KEYS_ERROR_MAX 512
#define KEY_FILE_MAX   (64 * 1024)

extern const char *keys_read(const char *path, const char *secret,
							 unsigned char bytes[KEY_FILE_MAX], size_t *len);
extern bool keys_load(const Config *config, TokenKeys *keys, char error[KEYS_ERROR_MAX]);

#endif

/*
 * keys.c
 *		Keys that tokens are verified with, read from files.
 *
 * Keys are in files because a command line and an environment can be read by
 * others.  A secret is the file's bytes without the end of its line, so that
 * one made by "openssl rand -hex 32 > file" is the same here and in the
 * extension's pev.jwt_secret.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keys.h"
#include "log.h"

#define KID_MAX 128

/* Take "KID=FILE" apart; a text whose part before "=" can be no name is all file. */
static const char *
keys_split(const char *text, char kid[KID_MAX + 1])
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t len = strspn(text, allowed);

	kid[0] = '\0';
	if (len == 0 || len > KID_MAX || text[len] != '=')
		return text;
	memcpy(kid, text, len);
	kid[len] = '\0';
	return text + len + 1;
}

/* Warn of a secret that is none, as everybody on this machine can read or replace it. */
static void
keys_check_mode(int fd, const char *option, const char *path)
{
	struct stat file;

	if (fstat(fd, &file) == 0 && (file.st_mode & (S_IROTH | S_IWOTH)) != 0)
		log_warning("%s: everybody can read or write %s", option, path);
}

/*
 * Read a file; what is wrong, or NULL.  If it is a secret, then of the option that
 * is named; else that is NULL.
 */
const char *
keys_read(const char *path, const char *secret, unsigned char bytes[KEY_FILE_MAX], size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *error = NULL;

	*len = 0;
	if (fd < 0)
		return strerror(errno);
	if (secret != NULL)
		keys_check_mode(fd, secret, path);
	while (error == NULL)
	{
		ssize_t n = read(fd, bytes + *len, KEY_FILE_MAX - *len);

		if (n < 0)
			error = strerror(errno);
		else if (n == 0)
			break;
		else if ((*len += (size_t) n) == KEY_FILE_MAX)
			error = "the file is too large for a key";
	}
	close(fd);
	return error;
}

/* How long is a secret, without the end of the line? */
static size_t
secret_length(const unsigned char *bytes, size_t len)
{
	while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
		len--;
	return len;
}

/* Add the keys of one option's files. */
static bool
keys_add_files(const StringList *files, bool secret, TokenKeys *keys, char *error)
{
	const char *option = secret ? "--jwt-secret-file" : "--jwt-key-file";

	for (int i = 0; i < files->count; i++)
	{
		unsigned char bytes[KEY_FILE_MAX];
		char name[KID_MAX + 1];
		const char *path = keys_split(files->items[i], name);
		const char *kid = name[0] != '\0' ? name : NULL;
		size_t len;
		const char *wrong = keys_read(path, secret ? option : NULL, bytes, &len);

		if (wrong == NULL && secret)
			wrong = token_keys_add_secret(keys, kid, bytes, secret_length(bytes, len));
		else if (wrong == NULL)
			wrong = token_keys_add_public(keys, kid, bytes, len);
		explicit_bzero(bytes, sizeof(bytes));
		if (wrong == NULL)
			continue;
		snprintf(error, KEYS_ERROR_MAX, "%s: %.300s: %s", option, path, wrong);
		return false;
	}
	return true;
}

/* Read all keys.  The caller ends keys with token_keys_free if it succeeds. */
bool
keys_load(const Config *config, TokenKeys *keys, char error[KEYS_ERROR_MAX])
{
	*keys = (TokenKeys){0};
	if (keys_add_files(&config->secret_files, true, keys, error) &&
		keys_add_files(&config->key_files, false, keys, error))
		return true;
	token_keys_free(keys);
	return false;
}

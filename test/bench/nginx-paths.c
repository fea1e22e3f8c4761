/*
 * nginx-paths.c
 *		Lets nginx with nchan run from a private directory (LD_PRELOAD).
 *
 * Debian's nginx creates /var/lib/nginx/body at start.  The directive that moves
 * it, client_body_temp_path, does not reach the location that nchan makes for
 * itself, so nginx would need to be installed, and root.  Here that one path is
 * taken for $NGINX_PATHS/….
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COMPILED_IN "/var/lib/nginx/"

/* The path to use, in the buffer if it is another. */
static const char *
private_path(const char *path, char *buffer, size_t size)
{
	const char *dir = getenv("NGINX_PATHS");

	if (dir == NULL || strncmp(path, COMPILED_IN, strlen(COMPILED_IN)) != 0)
		return path;
	snprintf(buffer, size, "%s/%s", dir, path + strlen(COMPILED_IN));
	return buffer;
}

int
mkdir(const char *path, mode_t mode)
{
	int (*next)(const char *, mode_t);
	char buffer[4096];

	*(void **) &next = dlsym(RTLD_NEXT, "mkdir");
	return next(private_path(path, buffer, sizeof(buffer)), mode);
}

int
stat64(const char *restrict path, struct stat64 *restrict status)
{
	int (*next)(const char *, struct stat64 *);
	char buffer[4096];

	*(void **) &next = dlsym(RTLD_NEXT, "stat64");
	return next(private_path(path, buffer, sizeof(buffer)), status);
}

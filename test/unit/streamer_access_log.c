/*
 * streamer_access_log.c
 *		What of a request's target is logged: the path, escaped, and no query.
 */
#include <string.h>

#include "access_log.h"
#include "streamer_tap.h"

int
main(void)
{
	static const struct
	{
		const char *target;
		const char *path;
	} cases[] = {
		{"/", "/"},
		{"/events/user:u_1", "/events/user:u_1"},
		{"/events/b%C3%BCcher", "/events/b%C3%BCcher"},
		{"/events/1?token=secret", "/events/1"},
		{"/events/1?", "/events/1"},
		{"/events/1%3ftoken=secret", "/events/1"},
		{"/events/1%3Ftoken=secret", "/events/1"},
		{"/events/1%253Ftoken=secret", "/events/1"},
		{"/events/1&token=secret", "/events/1"},
		{"/events/1%26token=secret", "/events/1"},
		{"/events/1;token=secret", "/events/1"},
		{"/events/1%3btoken=secret", "/events/1"},
		{"/events/1#token=secret", "/events/1"},
		{"/events/1%23token=secret", "/events/1"},
		{"//user:password@host/", "//user:password@host/"},
		{"*", "-"},
		{"", "-"},
		{"https://user:password@host/path", "-"},
		{"user:password@host:443", "-"},
		{"/a\nb\r\tc d", "/a\\x0ab\\x0d\\x09c\\x20d"},
		{"/\x1b[31m\x7f", "/\\x1b[31m\\x7f"},
		{"/b\xc3\xbc\xff", "/b\\xc3\\xbc\\xff"},
		{"/\\x0a", "/\\x5cx0a"},
		{"/\"quoted\"", "/\"quoted\""},
	};
	char name[32];
	char path[ACCESS_PATH_MAX];
	char target[2 * ACCESS_PATH_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		access_path(path, sizeof(path), cases[i].target);
		snprintf(name, sizeof(name), "target %zu", i);
		is(path, cases[i].path, name);
	}
	for (size_t len = ACCESS_PATH_MAX - 20; len < sizeof(target); len++)
	{
		memset(target, '\n', len);
		target[0] = '/';
		target[len] = '\0';
		access_path(path, sizeof(path), target);
		if (strlen(path) >= sizeof(path) || strcmp(path + strlen(path) - 3, "...") != 0)
			break;
	}
	ok(strlen(target) == sizeof(target) - 1, "one that is too long is cut");
	return done();
}

/*
 * streamer_origin.c
 *		Which origins can be configured: those that a browser would send.
 */
#include "origin.h"
#include "streamer_tap.h"

int
main(void)
{
	static const char *const good[] = {
		"*",
		"https://example.org",
		"http://localhost:3000",
		"http://127.0.0.1:5173",
		"http://[::1]:8080",
		"https://xn--bcher-kva.example",
		"chrome-extension://abcdefghijklmnop",
		"http://example.org:443",
	};
	static const char *const bad[] = {
		"",
		"null",
		"example.org",
		"https://",
		"https://example.org/",
		"https://example.org/path",
		"https://Example.org",
		"HTTPS://example.org",
		"https://example.org:443",
		"http://example.org:80",
		"https://example.org:",
		"https://example.org:0",
		"https://example.org:080",
		"https://example.org:123456",
		"https://*.example.org",
		"https://user@example.org",
		"https://example.org https://example.com",
		"http://[::1",
		"http://[]",
		"http://[::1]x",
		"://example.org",
		"**",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(origin_is_valid(good[i]), good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!origin_is_valid(bad[i]), bad[i]);
	return done();
}

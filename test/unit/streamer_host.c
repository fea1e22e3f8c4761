/*
 * streamer_host.c
 *		Which hosts requests may be for where everybody is served on loopback.
 */
#include <stdio.h>
#include <string.h>

#include "host.h"
#include "streamer_tap.h"

/* Every one of these headers must be taken, or refused. */
static void
all_are(const char *const *headers, bool ours)
{
	char name[80];

	for (; *headers != NULL; headers++)
	{
		snprintf(name, sizeof(name), "%.40s is %s", *headers, ours ? "ours" : "not");
		ok(host_is_ours(*headers) == ours, name);
	}
}

int
main(void)
{
	static const char *const ours[] = {
		"localhost",  "localhost:8080",  "LocalHost:1", "app.localhost",    "app.localhost:80",
		"127.0.0.1",  "127.0.0.1:8080",  "127.9.9.9",   "192.0.2.1:80",     "[::1]",
		"[::1]:8080", "[2001:db8::1]:1", "pev.example", "PEV.example:8443", "localhost:",
		NULL,
	};
	static const char *const strange[] = {
		"",
		":8080",
		"evil.example",
		"evil.example:8080",
		"localhost.evil.example",
		"notlocalhost",
		".localhost.",
		"127.0.0.1.evil.example",
		"127.0.0.1@evil.example",
		"127.0.0.1:8080@evil.example",
		"127.1",
		"2130706433",
		"0x7f000001",
		"[::1",
		"[::1]evil.example",
		"[]",
		"[evil.example]",
		"[127.0.0.1]",
		"::1",
		"x.pev.example",
		"pev.example.",
		"localhost evil.example",
		"localhost,evil.example",
		"localhost:80:80",
		NULL,
	};
	static const char *const any[] = {"evil.example", "", NULL};
	char key[] = "/nowhere";
	char allowed[] = "pev.example";
	char long_name[600];
	Config config = {.allowed_hosts = {.count = 1, .items = {allowed}}};

	hosts_start(&config);
	all_are(ours, true);
	all_are(strange, false);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	ok(!host_is_ours(long_name), "a long name is not");
	ok(!host_name_is_valid(long_name), "nor can it be allowed");
	ok(host_name_is_valid("a-b_c.example1") && !host_name_is_valid("A.example") &&
		   !host_name_is_valid("a.example:80") && !host_name_is_valid("") &&
		   !host_name_is_valid("*.example"),
	   "names that can be allowed are written as browsers send them");

	config.insecure_no_auth = true;
	hosts_start(&config);
	all_are(any, true);
	config.insecure_no_auth = false;
	config.key_files = (StringList){.count = 1, .items = {key}};
	hosts_start(&config);
	all_are(any, true);
	return done();
}

/*
 * streamer_encoding.c
 *		Whether a client would rather have a response compressed.
 */
#include "encoding.h"
#include "streamer_tap.h"

int
main(void)
{
	static const char *const yes[] = {"gzip",
									  "GZip",
									  "x-gzip",
									  "gzip, deflate, br",
									  "deflate,gzip",
									  "br;q=1.0, gzip;q=0.8, *;q=0.1",
									  "gzip;q=0.001",
									  "gzip;q=1",
									  "gzip ; q=1.000 ",
									  "gzip\t;\tQ=0.5",
									  "*",
									  "*;q=0.5",
									  "identity;q=0.5, gzip;q=0.5",
									  "identity;q=0.5, gzip;q=0.6",
									  "identity;q=0, *",
									  " , ,gzip",
									  "identity;q=x, gzip"};
	static const char *const no[] = {NULL,
									 "",
									 "identity",
									 "br",
									 "gzip;q=0",
									 "gzip;q=0.000",
									 "*;q=0",
									 "gzip;q=0, *",
									 "identity, gzip;q=0.999",
									 "identity;q=0.2, gzip;q=0.1",
									 "identity;q=0.2, *;q=0.1",
									 "identity;q=0, gzip;q=0",
									 "gzipped",
									 "gzi",
									 "agzip",
									 "gzip;q=",
									 "gzip;q=2",
									 "gzip;q=1.001",
									 "gzip;q=0.0001",
									 "gzip;q=-1",
									 "gzip;q=0,5",
									 "gzip;level=9",
									 "gzip;",
									 ";q=1",
									 ",;,",
									 "   "};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		ok(encoding_is_gzip(yes[i]), yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		ok(!encoding_is_gzip(no[i]), no[i] != NULL ? no[i] : "no header");
	return done();
}

/*
 * streamer_gzip.c
 *		What is compressed piece by piece is what was written.
 */
#include <stdlib.h>
#include <zlib.h>

#include "gzip.h"
#include "streamer_tap.h"

/* Compress the text in pieces of this size; it must come back as it was. */
static void
round_trip(const char *text, size_t len, size_t piece, const char *name)
{
	Gzip *gzip = gzip_new();
	z_stream back = {0};
	char *got = malloc(len + 1);
	Buf out;

	buf_init(&out);
	for (size_t done_len = 0; done_len < len; done_len += piece)
		gzip_add(gzip, text + done_len, len - done_len < piece ? len - done_len : piece, &out);
	gzip_end(gzip, &out);
	gzip_free(gzip);

	inflateInit2(&back, 15 + 16);
	back.next_in = (Bytef *) out.data;
	back.avail_in = (uInt) out.len;
	back.next_out = (Bytef *) got;
	back.avail_out = (uInt) len + 1;
	ok(inflate(&back, Z_FINISH) == Z_STREAM_END, name);
	ok(back.avail_in == 0 && back.total_out == len && memcmp(got, text, len) == 0, "the same");
	inflateEnd(&back);
	buf_free(&out);
	free(got);
}

int
main(void)
{
	enum
	{
		SIZE = 300 * 1000
	};
	char *text = malloc(SIZE);

	srandom(1);
	for (int i = 0; i < SIZE; i++)
		text[i] = (char) random();
	round_trip("", 0, 1, "nothing");
	round_trip("x", 1, 1, "a byte");
	round_trip(text, SIZE, SIZE, "what cannot be compressed");
	round_trip(text, SIZE, 999, "the same in pieces");
	memset(text, 'a', SIZE);
	round_trip(text, SIZE, 70000, "what can");
	gzip_free(gzip_new());
	gzip_free(NULL);
	free(text);
	return done();
}

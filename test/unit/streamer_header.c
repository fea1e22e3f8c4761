/*
 * streamer_header.c
 *		Which headers are refused because others might read them otherwise.
 */
#include "header.h"
#include "streamer_tap.h"

static const char bad_name[] = "The name of a header field holds a character that none may.";
static const char bad_value[] = "The value of a header field holds a control character.";
static const char twice[] = "A header field is there twice that may be there once.";
static const char bad_coding[] = "The only Transfer-Encoding is chunked.";
static const char both[] = "A request has either a Content-Length or a Transfer-Encoding.";
static const char old[] = "HTTP/1.0 knows no Transfer-Encoding.";

/* A header of two fields must be refused for this; NULL: it is taken. */
static void
header(const char *name, const char *value, const char *other, const char *other_value,
	   const char *want)
{
	HeaderCheck check = {0};

	header_check(&check, name, value);
	header_check(&check, other, other_value);
	is(header_fault(&check, false), want, name);
}

/* So must one of a single field, whatever follows. */
static void
field(const char *name, const char *value, const char *want)
{
	header(name, value, "Accept", "*/*", want);
}

int
main(void)
{
	HeaderCheck check = {0};

	field("!#$%&'*+-.^_`|~azAZ09", "a\tb \x80\xff", NULL);
	field("X", "", NULL);
	field("", "x", bad_name);
	field("X ", "x", bad_name);
	field("X(Y)", "x", bad_name);
	field("X\x80", "x", bad_name);
	field("Content-Length\t", "x", bad_name);
	field("X", "a\rb", bad_value);
	field("X", "a\nb", bad_value);
	field("X", "\x01", bad_value);
	field("X", "\x7f", bad_value);
	field("Content-Length", "1", NULL);
	field("Transfer-Encoding", "chunked", NULL);
	field("transfer-encoding", "Chunked", NULL);
	field("Transfer-Encoding", "gzip", bad_coding);
	field("Transfer-Encoding", "gzip, chunked", bad_coding);
	field("Transfer-Encoding", "chunked, chunked", bad_coding);
	field("Transfer-Encoding", " chunked", bad_coding);
	field("Transfer-Encoding", "", bad_coding);
	header("Content-Length", "1", "content-length", "1", twice);
	header("Host", "a", "HOST", "b", twice);
	header("Content-Type", "a", "Content-Type", "a", twice);
	header("Idempotency-Key", "a", "Idempotency-Key", "a", twice);
	header("Accept-Encoding", "a", "Accept-Encoding", "b", NULL);
	header("Cookie", "a=b", "Cookie", "c=d", NULL);
	header("Content-Length", "1", "Transfer-Encoding", "chunked", both);
	header("Transfer-Encoding", "chunked", "Content-Length", "1", both);
	header("X ", "1", "X", "1", bad_name);
	header_check(&check, "Transfer-Encoding", "chunked");
	is(header_fault(&check, true), old, "chunks with HTTP/1.0");
	check = (HeaderCheck){0};
	header_check(&check, "Content-Length", "1");
	is(header_fault(&check, true), NULL, "a length with HTTP/1.0");
	return done();
}

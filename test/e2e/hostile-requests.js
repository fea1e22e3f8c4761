// Requests that nobody means well by, as they are written, and what each is answered.
//
// An answer is the status and the problem's detail, which libmicrohttpd's own answers
// lack; "stream" stands for an event stream that begins, and several answers to one
// request are joined by " + ". ", closed" says that the connection ends thereafter. Where
// it does not, it must serve the next request: nothing that was sent is left in it.

import crypto from 'node:crypto';
import { base64url, now } from './jwt.js';

/** An event as a client sends it. */
export const event = (n) => JSON.stringify({ type: 'progress', data: { currentStep: n, totalSteps: 9, percentage: 1, message: 'm' } });

const EVENT = event(1);

/** What the streamer of this table is started with, besides its keys. */
export const options = [
  '--jwt-audience', 'pev', '--jwt-issuer', 'https://issuer.example', '--token-cookie', 'pev_token',
  '--max-body-bytes', '64kB', '--body-timeout', '2s', '--send-timeout', '2s', '--max-clients', '64', '--stream-backlog-bytes', '128kB',
];

export const good = { aud: 'pev', iss: 'https://issuer.example', sub: 'u_1', 'pev.read': ['*'], 'pev.emit': ['*'], 'pev.enqueue': ['*'] };

const NO_TOKEN = '401 A token is needed: in the header Authorization, in a cookie, or as the parameter token.';
const MALFORMED = '401 The token is malformed.';
const UNKNOWN = '401 The token is not signed with a key that is known here.';
const TWO_TOKENS = '400 The request holds two tokens that differ.';
const BAD_TICKET = '401 The ticket is not for this stream, was not redeemed in time, or has expired.';
const NO_RIGHT = '403 The token does not allow to read this stream.';
const BAD_KEY = '400 A stream key has 1 to 200 bytes of UTF-8, begins with a letter, a digit or "_", and goes on with these or with - . : @ + ~ =; what follows a prefix and its colon is not empty.';
const NO_UUID = '400 A generation is named by a UUID.';
const NUL = '400 The request target holds a NUL character.';
const ESCAPE = '400 The URL holds a malformed percent escape.';
const NOTHING = '404 There is nothing here. Streams are at /events/ and their key.';
const METHOD = '405 The Allow header lists the methods that this resource knows.';
const NAME = '400 The name of a header field holds a character that none may.';
const VALUE = '400 The value of a header field holds a control character.';
const TWICE = '400 A header field is there twice that may be there once.';
const CODING = '400 The only Transfer-Encoding is chunked.';
const EITHER = '400 A request has either a Content-Length or a Transfer-Encoding.';
const AFTER = '400 "after" must be an event number or "now".';
const TYPES = '400 "types" must be a comma-separated list of at most 128 event type names.';
const NO_JSON = '415 The body must be application/json, in UTF-8.';
const TOO_LARGE = '413 A body takes at most 65536 bytes.';
const BAD_JOB = '400 A kind of job has 1 to 63 letters, digits, "_" and "-", and begins with a letter.';
const NO_JOB = '403 The token does not allow to queue jobs of this kind.';
const IDEMPOTENCY = '400 An Idempotency-Key has 1 to 255 visible ASCII characters.';

const lines = (...all) => all.map((line) => `${line}\r\n`).join('');
const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;

/** The rows of the table: [what, bytes as latin1, answer]. */
export function hostileRequests(ring, stream) {
  const token = (claims = {}, more) => ring.token({ ...good, ...claims }, more);
  const bearer = `Authorization: Bearer ${token()}`;
  const get = (target, ...headers) => `${lines(`GET ${target} HTTP/1.1`, 'Host: x', ...headers)}\r\n`;
  const ask = (target, ...headers) => get(target, bearer, ...headers);
  const listen = (...headers) => get(`/events/${stream}`, ...headers);
  const post = (headers, body = '') =>
    `${lines(`POST /events/${stream} HTTP/1.1`, 'Host: x', bearer, 'Content-Type: application/json', ...headers)}\r\n${body}`;
  const emit = (body, ...headers) => post([`Content-Length: ${Buffer.byteLength(body, 'latin1')}`, ...headers], body);
  const job = (target, body = '{}', ...headers) => emit(body, ...headers).replace(`/events/${stream}`, `/jobs/${target}`);
  const withToken = (text) => listen(`Authorization: Bearer ${text}`);
  const hmac = (head, claims, secret) => {
    const text = `${base64url(head)}.${base64url(claims)}`;
    return `${text}.${base64url(crypto.createHmac('sha256', secret).update(text).digest())}`;
  };
  const claims = (more = {}) => JSON.stringify({ exp: now() + 600, ...good, ...more });

  return [
    // --- tokens ---
    ['no token', listen(), NO_TOKEN],
    ['another scheme', listen('Authorization: Basic dTpw'), NO_TOKEN],
    ['a scheme without a token', listen('Authorization: Bearer'), MALFORMED],
    ['dots', withToken('..'), MALFORMED],
    ['a token of one part', withToken(base64url('{"alg":"HS256"}')), MALFORMED],
    ['empty parts', withToken(`${base64url('{"alg":"HS256"}')}..`), MALFORMED],
    ['alg none', withToken(`${base64url('{"alg":"none"}')}.${base64url(claims())}.`), UNKNOWN],
    ['alg none, with a signature', withToken(ring.sign('{"alg":"none"}', claims())), UNKNOWN],
    ['alg nOnE', withToken(`${base64url('{"alg":"nOnE"}')}.${base64url(claims())}.`), UNKNOWN],
    ['the public key as the secret', withToken(hmac('{"alg":"HS256"}', claims(), ring.read('rsa.pub'))), UNKNOWN],
    ['the secret with another algorithm', withToken(ring.sign('{"alg":"HS512"}', claims())), UNKNOWN],
    ['another secret', withToken(hmac('{"alg":"HS256"}', claims(), 'x'.repeat(64))), UNKNOWN],
    ['no signature', withToken(token().replace(/[^.]*$/, '')), UNKNOWN],
    ['claims changed after signing', withToken(token({ 'pev.read': [] }).replace(/\.[^.]*\./, `.${base64url(claims())}.`)), UNKNOWN],
    ['expired', withToken(token({ exp: now() - 1 })), '401 The token has expired.'],
    ['not valid yet', withToken(token({ nbf: now() + 3600 })), '401 The token is not valid yet.'],
    ['issued in the future', withToken(token({ iat: now() + 3600 })), '401 The token is not valid yet.'],
    ['no expiry', withToken(token({ exp: undefined })), '401 The token has no exp: it would never expire.'],
    ['an expiry in words', withToken(token({ exp: 'tomorrow' })), MALFORMED],
    ['an endless expiry', withToken(ring.sign('{"alg":"HS256"}', '{"exp":1e999}')), MALFORMED],
    ['another audience', withToken(token({ aud: 'other' })), '401 The token is for another audience.'],
    ['an audience that is a number', withToken(token({ aud: 7 })), '401 The token is for another audience.'],
    ['another issuer', withToken(token({ iss: 'https://issuer.example.net' })), '401 The token is from another issuer.'],
    ['rights that are no list', withToken(token({ 'pev.read': { '*': true } })), "401 The token's pev.read, pev.emit and pev.enqueue must be arrays of at most 64 strings of at most 256 bytes."],
    ['a subject that is a list', withToken(token({ sub: ['u_1'] })), MALFORMED],
    ['claims given twice', withToken(ring.sign('{"alg":"HS256"}', claims().replace('{', '{"exp":1,'))), MALFORMED],
    ['alg given twice', withToken(ring.sign('{"alg":"none","alg":"HS256"}', claims())), MALFORMED],
    ['a kid that climbs', withToken(token({}, { name: 'rsa', alg: 'RS256', header: { kid: '../../../../dev/null' } })), UNKNOWN],
    ['a kid that is SQL', withToken(token({}, { name: 'rsa', alg: 'RS256', header: { kid: "' OR '1'='1" } })), UNKNOWN],
    ['a kid that is an object', withToken(token({}, { header: { kid: {} } })), MALFORMED],
    ['a key brought along', withToken(hmac('{"alg":"HS256","jwk":{"kty":"oct","k":"eHg"}}', claims(), 'xx')), UNKNOWN],
    ['a critical extension', withToken(token({}, { header: { crit: ['b64'] } })), '401 The token has critical extensions, of which none is supported.'],
    ['claims nested deep', withToken(ring.sign('{"alg":"HS256"}', `{"exp":9999999999,"x":${'['.repeat(2500)}`)), MALFORMED],
    ['claims that are not UTF-8', withToken(ring.sign('{"alg":"HS256"}', Buffer.from('{"exp":9999999999,"x":"\xff"}', 'latin1'))), MALFORMED],
    ['a NUL behind the claims', withToken(ring.sign('{"alg":"HS256"}', `${claims()}\0`)), MALFORMED],
    ['base64 with padding', withToken(`${token()}=`), MALFORMED],
    ['bytes that are no base64', withToken(token().replace('.', '\xff.')), MALFORMED],
    ['the longest token, of nothing', withToken('x'.repeat(8192)), MALFORMED],
    ['a token too long', withToken('x'.repeat(8193)), '401 The token is longer than 8192 bytes.'],
    ['two headers with tokens', listen(bearer, `Authorization: Bearer ${token({ sub: 'u_2' })}`), TWO_TOKENS],
    ['a header and a parameter', get(`/events/${stream}?token=${token({ sub: 'u_2' })}`, bearer), TWO_TOKENS],
    ['a token in a form, where none is looked for', `${lines(`POST /events/${stream} HTTP/1.1`, 'Host: x', 'Content-Type: application/x-www-form-urlencoded', 'Content-Length: 16')}\r\naccess_token=abc`, NO_TOKEN],
    ['a token parameter with a NUL', get(`/events/${stream}?token=a%00b`), NUL],
    ['a ticket that is SQL', withToken("pevt_';DROP TABLE pev_ticket;--"), BAD_TICKET],
    ['a ticket with bytes that are no UTF-8', withToken('pevt_\xff\xfe'), BAD_TICKET],
    ['a token for another stream', withToken(token({ 'pev.read': ['other'] })), NO_RIGHT],
    ['a right with a wildcard in the middle', withToken(token({ 'pev.read': [`${String(stream)[0]}*`] })), NO_RIGHT],
    ['a subject that would widen a right', get('/events/user:u_1', `Authorization: Bearer ${token({ sub: 'u_1:*', 'pev.read': ['user:{{sub}}'] })}`), NO_RIGHT],

    // --- paths ---
    ['%00 in a key', ask('/events/a%00b'), NUL],
    ['a NUL in the path', ask('/events/4\x002'), NUL],
    ['a NUL in the query', ask(`/events/${stream}?after=\x001`), NUL],
    ['dots', ask('/events/../../etc/passwd'), NOTHING],
    ['dots alone', ask('/events/..'), BAD_KEY],
    ['dots, escaped', ask('/events/%2e%2e'), BAD_KEY],
    ['dots and a slash, escaped', ask('/events/%2e%2e%2fmetrics'), BAD_KEY],
    ['dots that lead to a stream', ask(`/metrics/../events/${stream}`), NOTHING],
    ['an escaped slash', ask('/events/a%2fb'), BAD_KEY],
    ['a backslash', ask('/events/..\\..\\boot.ini'), BAD_KEY],
    ['an escaped backslash', ask('/events/a%5Cb'), BAD_KEY],
    ['an overlong slash', ask('/events/%c0%af'), BAD_KEY],
    ['an overlong NUL', ask('/events/a%c0%80'), BAD_KEY],
    ['an overlong character of three bytes', ask('/events/%e0%80%af'), BAD_KEY],
    ['bytes that are no UTF-8', ask('/events/%ff%fe'), BAD_KEY],
    ['the same, unescaped', ask('/events/\xff\xfe'), BAD_KEY],
    ['a surrogate', ask('/events/%ed%a0%80'), BAD_KEY],
    ['a character beyond Unicode', ask('/events/%f4%90%80%80'), BAD_KEY],
    ['half a character', ask('/events/a%c3'), BAD_KEY],
    ['half an escape', ask('/events/a%2'), ESCAPE],
    ['an escape that is none', ask('/events/%zz'), ESCAPE],
    ['an escape in %u form', ask('/events/%u0041'), ESCAPE],
    ['escaped twice', ask('/events/a%2561'), BAD_KEY],
    ['a line feed', ask('/events/a%0ab'), BAD_KEY],
    ['a header in the path', ask('/events/a%0d%0aSet-Cookie:%20x=1'), BAD_KEY],
    ['markup', ask('/events/<script>alert(1)</script>'), NOTHING],
    ['SQL', ask("/events/1'%20OR%20'1'='1"), BAD_KEY],
    ['a key of 201 bytes', ask(`/events/${'k'.repeat(201)}`), BAD_KEY],
    ['a key of 201 bytes, escaped', ask(`/events/${'%C3%A9'.repeat(100)}k`), BAD_KEY],
    ['a number beyond bigint', ask('/events/9223372036854775808'), '400 A stream number must fit a bigint.'],
    ['a negative number', ask('/events/-1'), BAD_KEY],
    ['an empty key', ask('/events/'), NOTHING],
    ['two slashes', ask(`//events/${stream}`), NOTHING],
    ['two slashes before the key', ask(`/events//${stream}`), NOTHING],
    ['a generation that is a number', ask(`/generations/${stream}/stream`), NO_UUID],
    ['a generation that is a number, and more', ask(`/generations/${stream}/stream/`), NOTHING],
    ['a UUID in braces', ask('/generations/%7be96b74bc-aba8-4837-bb43-237fd687d18b%7d/stream'), NO_UUID],
    ['a UUID and a NUL', ask('/generations/e96b74bc-aba8-4837-bb43-237fd687d18b%00/stream'), NUL],
    ['dots for a UUID', ask('/generations/../stream'), NO_UUID],
    ['a UUID of 8,000 bytes', ask(`/generations/${'a'.repeat(8000)}/stream`), NO_UUID],
    ['emitting to a generation', emit(EVENT).replace(`/events/${stream}`, '/generations/e96b74bc-aba8-4837-bb43-237fd687d18b/stream'), METHOD],
    ['upper case', ask(`/EVENTS/${stream}`), NOTHING],
    ['a matrix parameter', ask(`/events;x=1/${stream}`), NOTHING],
    ['a fragment', ask(`/events/${stream}#x`), BAD_KEY],
    ['a target of 8,000 bytes', ask(`/events/${'k'.repeat(8000)}`), BAD_KEY],
    ['a target of 60,000 bytes', ask(`/events/${'k'.repeat(60_000)}`), '414, closed'],
    ['an absolute target', ask('http://elsewhere.example/events/%00'), NUL],
    ['an absolute target of another scheme', ask(`https://elsewhere.example/events/${stream}`), NOTHING],
    ['an absolute target without a path', ask('http://elsewhere.example'), NOTHING],
    ['an absolute target with user and password', ask('http://u:p@elsewhere.example/nowhere'), NOTHING],
    ['another scheme', ask('file:///etc/passwd'), NOTHING],
    ['an asterisk', ask('*'), NOTHING],
    ['an asterisk that asks for options', `${lines('OPTIONS * HTTP/1.1', 'Host: x')}\r\n`, '204'],
    ['a target without a slash', ask('events/1'), NOTHING],
    ['an empty target', 'GET  HTTP/1.1\r\nHost: x\r\n\r\n', '400, closed'],
    ['spaces in the target', ask('/events/a b'), 'closed'],
    ['a tab for a space', `GET\t/events/${stream}\tHTTP/1.1\r\nHost: x\r\n\r\n`, 'closed'],

    // --- methods and versions ---
    ...['TRACE', 'CONNECT', 'PUT', 'DELETE', 'get', 'GETT', 'X'.repeat(1000)].map((method) => [`method ${method.slice(0, 10)}`, ask(`/events/${stream}`).replace('GET', method), METHOD]),
    ['CONNECT to a host', `${lines('CONNECT elsewhere.example:443 HTTP/1.1', 'Host: elsewhere.example:443')}\r\n`, NOTHING],
    ['a method of 20,000 bytes', `${'M'.repeat(20_000)} / HTTP/1.1\r\nHost: x\r\n\r\n`, '414, closed'],
    // Its methods, too: this one is G.
    ['a method with a NUL', ask(`/events/${stream}`).replace('GET', 'G\0T'), METHOD],
    ['a method that is no token', ask(`/events/${stream}`).replace('GET', 'G(T)'), METHOD],
    ['HTTP/0.9', `GET /events/${stream}\r\n`, '400, closed'],
    ['HTTP/0.9, with a version', ask(`/events/${stream}`).replace('1.1', '0.9'), '505, closed'],
    ['HTTP/1.9', ask('/events/%00').replace('1.1', '1.9'), NUL],
    ['HTTP/2.0', ask('/events/%00').replace('1.1', '2.0'), '505, closed'],
    ['HTTP/3.0', ask('/events/%00').replace('1.1', '3.0'), '505, closed'],
    ['HTTP/11', ask('/events/%00').replace('1.1', '11'), '400, closed'],
    ['HTTP/1.1 and more', ask('/events/%00').replace('1.1', '1.1.1'), '400, closed'],
    ['http in lower case', ask('/events/%00').replace('HTTP', 'http'), '400, closed'],
    ['no version that is known', ask('/events/%00').replace('HTTP/1.1', 'JUNK'), '400, closed'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00', '505, closed'],
    ['an upgrade to HTTP/2', ask('/events/%00', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__'), NUL],
    ['an upgrade to WebSocket', ask('/events/%00', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version: 13'), NUL],
    ['the hello of TLS', '\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03' + 'r'.repeat(32) + '\x20' + 's'.repeat(32), 'closed'],
    ['SSH', 'SSH-2.0-OpenSSH_9.2\r\n', 'closed'],
    ['SMTP', 'EHLO x\r\nMAIL FROM:<a@x>\r\n', '400, closed'],
    ['an SSL of PostgreSQL', '\x00\x00\x00\x08\x04\xd2\x16\x2f', 'closed'],
    ['noise', '\x80\x81\x82\xff\xfe\x00\x01\x02\n\n\n', 'closed'],
    ['empty lines alone', '\r\n'.repeat(2000), 'closed'],
    ['empty lines before a request', `\r\n\r\n${ask('/events/%00')}`, NUL],

    // --- headers ---
    ['no Host', `GET /events/%00 HTTP/1.1\r\n${bearer}\r\n\r\n`, '400, closed'],
    ['two Hosts', ask('/events/%00', 'Host: y'), `${TWICE}, closed`],
    ['a Host that is none', ask('/events/%00').replace('Host: x', 'Host: a b/c@d'), NUL],
    ['an empty Host', ask('/events/%00').replace('Host: x', 'Host:'), NUL],
    ['a folded header', ask('/events/%00', 'X-A: 1\r\n 2'), NUL],
    ['a folded header that hides a token', get(`/events/${stream}`, `Authorization:\r\n Bearer ${token()}`), `${NAME}, closed`],
    ['a header that begins with a space', `GET /events/%00 HTTP/1.1\r\n Host: x\r\n${bearer}\r\n\r\n`, '400, closed'],
    ['a header without a colon', ask('/events/%00', 'nonsense'), '400, closed'],
    ['a header without a name', ask('/events/%00', ': nonsense'), NUL],
    ['a space before the colon', ask('/events/%00', 'X-A : 1'), `${NAME}, closed`],
    ['a name that is no token', ask('/events/%00', 'X(A): 1'), `${NAME}, closed`],
    ['bytes that are no ASCII in a value', ask('/events/%00', 'X-A: \xff\xfe\x80'), NUL],
    ['control characters in a value', ask('/events/%00', 'X-A: \x01\x7f'), `${VALUE}, closed`],
    // libmicrohttpd's values end at a NUL; see header.c.
    ['a NUL in a value', ask('/events/%00', 'X-A: a\0b'), NUL],
    ['a NUL in a token', listen(`Authorization: Bearer ${token()}\0`), '200 stream'],
    ['a bare CR in a value', ask('/events/%00', 'X-A: a\rb'), `${VALUE}, closed`],
    // Which a recipient may take for CRLF (RFC 9112, section 2.2).
    ['lines that end in LF alone', ask('/events/%00').replaceAll('\r\n', '\n'), NUL],
    ['a header of 20,000 bytes', ask('/events/1', `X-A: ${'a'.repeat(20_000)}`), '431, closed'],
    ['a name of 20,000 bytes', ask('/events/1', `${'a'.repeat(20_000)}: 1`), '431, closed'],
    ['10,000 headers', ask('/events/1', ...Array.from({ length: 10_000 }, (_, i) => `X-${i}: ${i}`)), '431, closed'],
    ['300 empty headers', ask('/events/1', ...Array(300).fill('A:')), '431, closed'],
    ['an endless header', `GET /events/1 HTTP/1.1\r\nX-A: ${'a'.repeat(200_000)}`, '431, closed'],
    ['an Origin that would split the answer', ask('/events/%00', 'Origin: https://a\r\n\tX: 1'), `${NAME}, closed`],
    ['an Accept of 8,000 types', ask('/events/%00', `Accept: ${'a/b,'.repeat(3000)}`), NUL],
    ['a cookie of 10,000 crumbs', listen(`Cookie: ${'a=b; '.repeat(2000)}`), '431, closed'],
    ['a Range', ask('/events/%00', 'Range: bytes=0-1,0-2,0-3'), NUL],
    ['an X-Forwarded-For that is no address', ask('/events/%00', "X-Forwarded-For: '; DROP TABLE x; --"), NUL],
    ['a method in a header', ask('/events/%00', 'X-HTTP-Method-Override: POST'), NUL],

    // --- queries ---
    ['a query of 12,000 bytes', get(`/events/${stream}?x=${'x'.repeat(12_000)}`, bearer), '200 stream'],
    // libmicrohttpd keeps every parameter in the connection's memory, and hangs up where that ends.
    ['3,000 parameters', get(`/events/${stream}?after=x&${'a&'.repeat(3000)}`, bearer), 'closed'],
    ['10,000 parameters', get(`/events/${stream}?${'a&'.repeat(10_000)}`, bearer), '414, closed'],
    ['a parameter given twice, the last being wrong', ask(`/events/${stream}?after=1&after=x`), AFTER],
    ['a half escape', ask(`/events/${stream}?after=%3`), ESCAPE],
    ['an escape that is none', ask(`/events/${stream}?types=%zz`), ESCAPE],
    ['an escaped NUL in a value', ask(`/events/${stream}?types=a%00`), NUL],
    ['a negative position', ask(`/events/${stream}?after=-1`), AFTER],
    ['a position beyond bigint', ask(`/events/${stream}?after=9223372036854775808`), AFTER],
    ['a position in hexadecimal', ask(`/events/${stream}?after=0x10`), AFTER],
    ['a position with a fraction', ask(`/events/${stream}?after=1.5`), AFTER],
    ['a position that is SQL', ask(`/events/${stream}?after=1;DELETE%20FROM%20pev_stream`), AFTER],
    ['a position in other digits', ask(`/events/${stream}?after=%D9%A1`), AFTER],
    ['a lastEventId that is none', ask(`/events/${stream}?lastEventId=abc`), '400 "lastEventId" must be an event number.'],
    ['a type that nobody knows', ask(`/events/${stream}?types=no-such-type`), '400 There is no event type "no-such-type".'],
    ['a type with a quote', ask(`/events/${stream}?types=a'b`), TYPES],
    ['a type with a brace', ask(`/events/${stream}?types=%7B%7D`), TYPES],
    ['an empty type', ask(`/events/${stream}?types=a,,b`), TYPES],
    ['129 types', ask(`/events/${stream}?types=${'progress,'.repeat(128)}progress`), TYPES],
    ['a type of 64 bytes', ask(`/events/${stream}?types=${'a'.repeat(64)}`), TYPES],
    ['types of 5,000 bytes', ask(`/events/${stream}?types=${'a,'.repeat(2500)}`), '400 A part of the URL is too long.'],
    ['several question marks', ask(`/events/${stream}?after=1?after=2`), AFTER],

    // --- Last-Event-ID: an error would stop an EventSource, so what is no number is passed over ---
    ...['-1', '9223372036854775808', 'abc', "1' OR '1'='1", '\xff', '1,2', ' ', '9'.repeat(5000)].map((id) => [
      `Last-Event-ID ${id.slice(0, 20)}`, listen(bearer, `Last-Event-ID: ${id}`), '200 stream']),
    ['two of Last-Event-ID', listen(bearer, 'Last-Event-ID: x', 'Last-Event-ID: 1'), '200 stream'],

    // --- lengths ---
    ['a length beyond all', post(['Content-Length: 99999999999999999999'], EVENT), '413, closed'],
    ['a large length', post(['Content-Length: 9223372036854775807'], EVENT), `${TOO_LARGE}, closed`],
    ['a negative length', post(['Content-Length: -1'], EVENT), '400, closed'],
    ['a length with a sign', post([`Content-Length: +${EVENT.length}`], EVENT), '400, closed'],
    ['a length in hexadecimal', post([`Content-Length: 0x${EVENT.length.toString(16)}`], EVENT), '400, closed'],
    ['a length with a fraction', post([`Content-Length: ${EVENT.length}.0`], EVENT), '400, closed'],
    ['an empty length', post(['Content-Length:'], EVENT), '400, closed'],
    ['a list of lengths', post([`Content-Length: ${EVENT.length}, ${EVENT.length}`], EVENT), '400, closed'],
    ['two lengths that differ', post(['Content-Length: 5', `Content-Length: ${EVENT.length}`], EVENT), `${TWICE}, closed`],
    ['two lengths that are the same', post([`Content-Length: ${EVENT.length}`, `Content-Length: ${EVENT.length}`], EVENT), `${TWICE}, closed`],
    ['a length and chunks', post([`Content-Length: ${EVENT.length}`, 'Transfer-Encoding: chunked'], `${chunk(EVENT)}0\r\n\r\n`), `${EITHER}, closed`],
    ['a length, and chunks that hide a request', post(['Content-Length: 5', 'Transfer-Encoding: chunked'], `0\r\n\r\n${get('/hidden')}`), `${EITHER}, closed`],
    ['a length that is too small, and hides a request', post(['Content-Length: 2'], `{}${get('/hidden')}`), `400 Line 1, column 1: the event's "type" is missing. + ${NOTHING}`],
    ['a length with a space before the colon', post([`Content-Length : ${EVENT.length}`], EVENT), `${NAME}, closed`],
    ['a length behind a bare CR', post([`X-A: 1\rContent-Length: ${EVENT.length}`], EVENT), `${VALUE}, closed`],
    // As above; and to libmicrohttpd a line that begins with a colon ends the header.
    ['a length with a NUL', post([`Content-Length: ${EVENT.length}\x000`], EVENT), '201'],
    ['a field without a name, and a request behind it', ask('/events/%00', `: 1\r\n${get('/hidden')}`), `${NUL} + ${NOTHING}`],
    ['a length that is too large', post([`Content-Length: ${EVENT.length + 1}`], EVENT), 'closed'],
    ['a body where none belongs', ask('/events/%00', 'Content-Length: 5').concat('hello'), NUL],

    // --- chunks ---
    ...[
      ['of no length', 'zz\r\n', '400, closed'],
      ['of a negative length', '-5\r\n', '400, closed'],
      ['of an endless length', 'ffffffffffffffffffff\r\n', '413, closed'],
      ['of a length just below that', '7fffffffffffffff\r\n', 'closed'],
      ['with a sign', `+${EVENT.length.toString(16)}\r\n${EVENT}\r\n0\r\n\r\n`, '400, closed'],
      ['in 0x form', `0x${EVENT.length.toString(16)}\r\n${EVENT}\r\n0\r\n\r\n`, '400, closed'],
      ['too long for its length', `5\r\n${EVENT}\r\n0\r\n\r\n`, '400, closed'],
      ['without its end', `${EVENT.length.toString(16)}\r\n${EVENT}0\r\n\r\n`, '400, closed'],
      ['and no last one', chunk(EVENT), 'closed'],
      ['and half a last one', `${chunk(EVENT)}0\r\n`, 'closed'],
      ['with lines that end in LF', `${EVENT.length.toString(16)}\n${EVENT}\n0\n\n`, '201'],
      ['with an extension', `${EVENT.length.toString(16)};a="b"\r\n${EVENT}\r\n0\r\n\r\n`, '201'],
      ['with an extension of 20,000 bytes', `1;${'x'.repeat(20_000)}\r\n`, 'closed'],
      ['of one byte each', [...EVENT].map(chunk).join('').concat('0\r\n\r\n'), '201'],
      ['with trailers', `${chunk(EVENT)}0\r\nX-A: 1\r\nAuthorization: Bearer x\r\n\r\n`, '201'],
      ['with 10,000 trailers', `${chunk(EVENT)}0\r\n${'X: y\r\n'.repeat(10_000)}\r\n`, '431, closed'],
    ].map(([what, body, answer]) => [`chunks: ${what}`, post(['Transfer-Encoding: chunked'], body), answer]),
    ['a transfer coding with a space before the colon', post(['Transfer-Encoding : chunked'], `${chunk(EVENT)}0\r\n\r\n`), `${NAME}, closed`],
    ['another transfer coding', post(['Transfer-Encoding: gzip', `Content-Length: ${EVENT.length}`], EVENT), `${CODING}, closed`],
    ['two transfer codings', post(['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], `${chunk(EVENT)}0\r\n\r\n`), `${CODING}, closed`],
    ['chunked twice', post(['Transfer-Encoding: chunked, chunked'], `${chunk(EVENT)}0\r\n\r\n`), `${CODING}, closed`],
    ['a transfer coding in disguise', post(['Transfer-Encoding: \x0bchunked'], `${chunk(EVENT)}0\r\n\r\n`), `${CODING}, closed`],
    ['chunks with HTTP/1.0', post(['Transfer-Encoding: chunked'], `${chunk(EVENT)}0\r\n\r\n`).replace('1.1', '1.0'), '400 HTTP/1.0 knows no Transfer-Encoding., closed'],

    // --- expectations ---
    ['an expectation that nobody knows', emit('{}', 'Expect: the-unexpected'), "400 Line 1, column 1: the event's \"type\" is missing."],
    ['two expectations', emit('{}', 'Expect: 100-continue', 'Expect: 100-continue'), "100 + 400 Line 1, column 1: the event's \"type\" is missing."],
    ['an expectation with too large a body', post(['Content-Length: 70000', 'Expect: 100-continue']), `${TOO_LARGE}, closed`],

    // --- bodies ---
    ['nothing', emit(''), '400 Line 1, column 1: there is no event.'],
    ['a word', emit('hello'), '400 Line 1, column 1: an event must be an object.'],
    ['another type of content', emit('{}').replace('application/json', 'text/plain'), NO_JSON],
    ['a form', emit('a=b').replace('application/json', 'multipart/form-data; boundary=x'), NO_JSON],
    ['no type of content', emit('{}').replace('Content-Type: application/json\r\n', ''), NO_JSON],
    ['another charset', emit('{}').replace('application/json', 'application/json; charset=utf-16'), NO_JSON],
    ['gzip', emit('\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03', 'Content-Encoding: gzip'), NO_JSON],
    ['a large body', emit(' '.repeat(65_537)), TOO_LARGE],
    ['a byte order mark', emit(`\xef\xbb\xbf${EVENT}`), '400 Line 1, column 1: an event must be an object.'],
    ['UTF-16', emit(Buffer.from(EVENT, 'utf16le').toString('latin1')), "400 Line 1, column 2: a member's name in quotation marks must follow."],
    ['bytes that are no UTF-8', emit(EVENT.replace('"m"', '"\xff"')), '400 Line 1, column 85: this is not UTF-8.'],
    ['an overlong character', emit(EVENT.replace('"m"', '"\xc0\xaf"')), '400 Line 1, column 85: this is not UTF-8.'],
    ['a NUL', emit(EVENT.replace('"m"', '"\0"')), '400 Line 1, column 85: a control character in a string must be escaped.'],
    ['an escaped NUL', emit(EVENT.replace('"m"', '"\\u0000"')), '400 Line 1, column 91: the character U+0000 cannot be stored.'],
    ['half a surrogate', emit(EVENT.replace('"m"', '"\\ud83d"')), '400 Line 1, column 91: half of a surrogate pair is no character.'],
    ['surrogates the wrong way round', emit(EVENT.replace('"m"', '"\\ude00\\ud83d"')), '400 Line 1, column 91: half of a surrogate pair is no character.'],
    ['lists 10,000 deep', emit('['.repeat(10_000)), '400 Line 1, column 2: an event must be an object.'],
    ['objects 10,000 deep', emit('{"a":'.repeat(10_000)), '400 Line 1, column 2: an event has the members "type" and "data", each once.'],
    ['a member given twice', emit('{"type":"progress","type":"execution-complete","data":{}}'), '400 Line 1, column 20: an event has the members "type" and "data", each once.'],
    ['data given twice', emit(EVENT.replace('}}', '},"data":{}}')), '400 Line 1, column 89: an event has the members "type" and "data", each once.'],
    ['a member too many', emit(EVENT.replace('}}', '},"seq":1}')), '400 Line 1, column 89: an event has the members "type" and "data", each once.'],
    ['the prototype', emit(EVENT.replace('}}', '},"__proto__":{}}')), '400 Line 1, column 89: an event has the members "type" and "data", each once.'],
    ['a type that is SQL', emit(`{"type":"progress'; DROP TABLE pev_stream; --","data":{}}`), "422 unknown event type \"progress'; DROP TABLE pev_stream; --\"."],
    ['a type that is a number', emit('{"type":1,"data":{}}'), '400 Line 1, column 9: the type must be a string.'],
    ['a type of 60,000 bytes', emit(`{"type":"${'t'.repeat(60_000)}","data":{}}`), `422 unknown event type "${'t'.repeat(60_000)}".`],
    ['a number with 60,000 digits', emit(EVENT.replace('1', '1'.repeat(60_000))), '201'],
    ['a number with an exponent beyond numeric', emit(EVENT.replace('1', '1e999999')), '422 value overflows numeric format.'],
    ['NaN', emit(EVENT.replace('1', 'NaN')), '400 Line 1, column 42: a value must follow.'],
    ['two events without a list', emit(EVENT + EVENT), '400 Line 1, column 89: nothing must follow.'],
    ['a comment', emit(`/* */${EVENT}`), '400 Line 1, column 1: an event must be an object.'],
    ['single quotes', emit("{'type':'progress','data':{}}"), "400 Line 1, column 2: a member's name in quotation marks must follow."],
    ['faults that quote what was sent', emit('{"type":"progress","data":{"\\"}],\\u0000<script>":1}}'.replace('\\u0000', '')), '422 invalid event data for "progress".'],
    ['an event that is SQL', emit(EVENT.replace('"m"', `"'); DROP TABLE assistant_architect_events; --"`)), '201'],
    ['an Idempotency-Key of 256 bytes', emit(EVENT, `Idempotency-Key: ${'k'.repeat(256)}`), IDEMPOTENCY],
    ['an Idempotency-Key with a space', emit(EVENT, 'Idempotency-Key: a b'), IDEMPOTENCY],
    ['an Idempotency-Key that is no ASCII', emit(EVENT, 'Idempotency-Key: \xc3\xa9'), IDEMPOTENCY],
    ['an empty Idempotency-Key', emit(EVENT, 'Idempotency-Key:'), IDEMPOTENCY],
    ['an Idempotency-Key that is SQL', emit(EVENT, "Idempotency-Key: ';DROP/**/TABLE/**/pev_idempotency;--"), '201'],
    ['two of Idempotency-Key', emit(EVENT, 'Idempotency-Key: a', 'Idempotency-Key: b'), `${TWICE}, closed`],
    ['a stream of no kind', emit(EVENT).replace(`/events/${stream}`, '/events/nokind:1'), '404 stream kind "nokind" is not declared. The key "nokind:1" begins with a prefix that no row of pev_stream_kind declares.'],
    ['a stream that is no key', emit(EVENT).replace(`/events/${stream}`, '/events/%ff'), BAD_KEY],

    // --- jobs ---
    ['a job without a token', job('hostile').replace(`${bearer}\r\n`, ''), NO_TOKEN],
    ['a job by a token for events alone', job('hostile').replace(bearer, `Authorization: Bearer ${token({ 'pev.enqueue': undefined })}`), NO_JOB],
    ['a job by a pattern of kinds', job('hostile').replace(bearer, `Authorization: Bearer ${token({ 'pev.enqueue': ['host*', 'hostile:*', ''] })}`), NO_JOB],
    ['a job for a channel by a wildcard in the middle', job('hostile?channel=user:u_2').replace(bearer, `Authorization: Bearer ${token({ 'pev.read': ['user:u_*'] })}`), "403 The token does not allow to read the job's channel."],
    ['a job by a ticket that is SQL', job("hostile?token=pevt_';--").replace(`${bearer}\r\n`, ''), '403 A ticket allows to read, and nothing else.'],
    ['a job that is read', ask('/jobs/hostile'), METHOD],
    ['a job that is put', job('hostile').replace('POST', 'PUT'), METHOD],
    ['a job of no kind', job(''), NOTHING],
    ['a job below a job', job('hostile/1'), NOTHING],
    ['a kind that climbs', job('..'), BAD_JOB],
    ['a kind with a slash, escaped', job('a%2fb'), BAD_JOB],
    ['a kind with a NUL', job('a%00'), NUL],
    ['a kind that is SQL', job("k';DROP%20TABLE%20pev_job;--"), BAD_JOB],
    ['a kind in other letters', job('%D0%B0'), BAD_JOB],
    ['a kind of 64 bytes', job('k'.repeat(64)), BAD_JOB],
    ['a kind of 8,000 bytes', job('k'.repeat(8000)), BAD_JOB],
    ['half an escape in a kind', job('k%2'), BAD_JOB],
    ['a kind that is not declared', job('undeclared'), '404 job kind "undeclared" is not declared.'],
    ['a channel that is SQL', job("hostile?channel=user:u'%20OR%20'1'='1"), BAD_KEY],
    ['a channel with a line feed', job('hostile?channel=user:%0a'), BAD_KEY],
    ['a channel of 5,000 bytes', job(`hostile?channel=user:${'u'.repeat(5000)}`), '400 A part of the URL is too long.'],
    ['a channel given twice, the last being wrong', job('hostile?channel=user:u&channel='), BAD_KEY],
    ['a channel that is an execution', job('hostile?channel=42'), '400 stream "42" cannot be the channel of a job. A channel is a stream of a declared kind that carries events of family "channel".'],
    ['a subject that would be another channel', job('hostile').replace(bearer, `Authorization: Bearer ${token({ sub: 'u:1' })}`), '400 "channel" must name the stream that the job\'s events go to.'],
    ['no payload', job('hostile', ''), '400 Line 1, column 1: there is no payload.'],
    ['a payload that is no JSON', job('hostile', 'hello'), '400 Line 1, column 1: a value must follow.'],
    ['two payloads', job('hostile', '{}{}'), '400 Line 1, column 3: nothing must follow.'],
    ['a payload with an escaped NUL', job('hostile', '"\\u0000"'), '400 Line 1, column 8: the character U+0000 cannot be stored.'],
    ['a payload 10,000 deep', job('hostile', '['.repeat(10_000)), '400 Line 1, column 129: arrays and objects are nested more than 128 deep.'],
    ['a payload with a number beyond numeric', job('hostile', '1e999999'), '422 value overflows numeric format.'],
    ['a payload that is too large', job('hostile', ' '.repeat(65_537)), TOO_LARGE],
    ['a payload in a form', job('hostile', 'a=b').replace('application/json', 'application/x-www-form-urlencoded'), NO_JSON],
    ['a payload that is SQL', job('hostile', `"'); DROP TABLE pev_job; --"`), '202'],
    ['a payload with an Idempotency-Key that is SQL', job('hostile', '1', "Idempotency-Key: ';DROP/**/TABLE/**/pev_job;--"), '202'],
    ['a payload with an empty Idempotency-Key', job('hostile', '1', 'Idempotency-Key:'), IDEMPOTENCY],
    ['chunks of a payload that break off', job('hostile', '5\r\n{"a":\r\n').replace(/Content-Length: \d+/, 'Transfer-Encoding: chunked'), 'closed'],

    ['emitting where nothing is', emit(EVENT).replace(`/events/${stream}`, '/metrics'), METHOD],
  ];
}

/*
 * stream.c
 *		Streams: their keys, numbers and kinds.
 *
 * A stream is a number.  Applications that name executions by UUID or by words
 * give a key instead; pev_stream maps it to a number below zero, so that keyed
 * streams never meet an application's own ids.
 *
 * The mapping is made by the first event of a key.  Two sessions may bring that
 * event at once, under any isolation level, so creation takes an advisory lock
 * on the key's hash and then looks with SnapshotSelf, which sees what others
 * have committed by now whatever the transaction's snapshot says.  The lock
 * class is pev's own (see turn.c) and the lock lasts to the end of the
 * transaction, for until then nobody else can see the new row.
 *
 * A mapping, once committed, does not change.  Each backend keeps the ones it
 * has met, in both directions, and the kinds; streams of its own transaction
 * are not kept, since they may yet be rolled back.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "array.h"
#include "compat.h"
#include "own_table.h"
#include "schema_program.h"
#include "stream.h"
#include "turn.h"

#define STREAM_CACHE_MAX 4096 /* streams a backend remembers before it starts over */

/* Columns of pev_stream; the install script declares them in this order. */
enum
{
	STREAM_ID = 1,
	STREAM_KEY,
	STREAM_KIND,
	STREAM_CREATED_AT
};

/* Columns of pev_stream_kind. */
enum
{
	KIND_PREFIX = 1,
	KIND_DESCRIPTION,
	KIND_FAMILIES
};

/* A keyed stream. */
typedef struct Stream
{
	int64 id; /* the hash key */
	char key[STREAM_KEY_MAX + 1];
	int prefix_len; /* bytes before the colon; 0: no kind */
} Stream;

/* The other direction. */
typedef struct StreamByKey
{
	char key[STREAM_KEY_MAX + 1]; /* the hash key */
	int64 id;
} StreamByKey;

/* A row of pev_stream_kind. */
typedef struct Kind
{
	char prefix[NAMEDATALEN]; /* the hash key */
	bool all_families;
	int count;
	Datum *families; /* of text */
	bool *nulls;
} Kind;

static MemoryContext cache_context = NULL; /* holds the tables below and what they point to */
static HTAB *streams;                      /* by id, of Stream */
static HTAB *streams_by_key;               /* by key, of StreamByKey */
static HTAB *kinds;                        /* by prefix, of Kind */
static uint64 cached_generation;           /* the catalogue's, when the caches were begun */

PG_FUNCTION_INFO_V1(pev_stream_key_parse);

/* May this byte stand in a key?  The first one must be a letter, digit, "_" or non-ASCII. */
static bool
is_key_byte(unsigned char c, bool first)
{
	if (IS_HIGHBIT_SET(c) || isalnum(c) || c == '_')
		return true;
	return !first && c != '\0' && strchr("-.:@+~=", c) != NULL;
}

/* Refuse a key, saying why. */
static void
refuse_key(const char *key, int len, const char *why)
{
	int shown = pg_mbcliplen(key, len, STREAM_KEY_MAX);

	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid stream key \"%.*s\"", shown, key), errdetail("%s", why),
					errhint("A key is a number, a UUID, a word, or \"prefix:name\" with a declared "
							"prefix.")));
}

/* Bytes before the colon, or 0 if the key has none. */
static int
prefix_length(const char *key)
{
	const char *colon = strchr(key, ':');

	return colon == NULL ? 0 : (int) (colon - key);
}

/*
 * The form of a key under which its stream is known: as it is, except that a
 * UUID is folded to lower case.  Raises 22023 for what is not a key.
 */
char *
stream_key_canonical(const char *key, int len)
{
	char *result;
	int prefix;

	if (len == 0)
		refuse_key(key, len, "A key must not be empty.");
	if (len > STREAM_KEY_MAX)
		refuse_key(key, len, psprintf("A key takes at most %d bytes.", STREAM_KEY_MAX));
	for (int i = 0; i < len; i++)
		if (!is_key_byte(key[i], i == 0))
			refuse_key(key, len,
					   "A key begins with a letter, a digit or \"_\", followed by more "
					   "of these or any of - . : @ + ~ =");
	result = pnstrdup(key, len);
	prefix = prefix_length(result);
	if (prefix > 0 && result[prefix + 1] == '\0')
		refuse_key(key, len, "Nothing follows the prefix.");
	if (schema_format_holds(SCHEMA_FORMAT_UUID, result, len))
		for (char *c = result; *c != '\0'; c++)
			*c = pg_ascii_tolower((unsigned char) *c);
	return result;
}

/* Is the key made of digits alone?  Then it is that number; raises 22003 beyond bigint. */
bool
stream_key_is_number(const char *key, int64 *id)
{
	if (key[strspn(key, "0123456789")] != '\0')
		return false;
	*id = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(key)));
	return true;
}

/* A hash table in the caches' context. */
static HTAB *
make_cache(const char *name, Size keysize, Size entrysize, int keytype)
{
	HASHCTL ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = cache_context};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_CONTEXT | keytype);
}

/* Begin the caches anew if the tables below them changed, or if they are full. */
static void
prepare_caches(void)
{
	if (cache_context != NULL && cached_generation == catalog_generation() &&
		hash_get_num_entries(streams) < STREAM_CACHE_MAX)
		return;
	if (cache_context == NULL)
		cache_context =
			AllocSetContextCreate(CacheMemoryContext, "pev streams", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(cache_context);
	streams = make_cache("pev streams", sizeof(int64), sizeof(Stream), HASH_BLOBS);
	streams_by_key =
		make_cache("pev stream keys", STREAM_KEY_MAX + 1, sizeof(StreamByKey), HASH_STRINGS);
	kinds = make_cache("pev stream kinds", NAMEDATALEN, sizeof(Kind), HASH_STRINGS);
	cached_generation = catalog_generation();
}

/* Fill in a stream from its row. */
static void
fill_stream(Stream *stream, HeapTuple tuple, TupleDesc desc)
{
	char *key = TextDatumGetCString(own_table_column(tuple, desc, STREAM_KEY));

	stream->id = DatumGetInt64(own_table_column(tuple, desc, STREAM_ID));
	strlcpy(stream->key, key, sizeof(stream->key));
	stream->prefix_len = prefix_length(stream->key);
	pfree(key);
}

/* Remember a committed stream. */
static void
remember_stream(const Stream *stream)
{
	Stream *by_id = hash_search(streams, &stream->id, HASH_ENTER, NULL);
	StreamByKey *by_key = hash_search(streams_by_key, stream->key, HASH_ENTER, NULL);

	*by_id = *stream;
	by_key->id = stream->id;
}

/* Read a row of pev_stream as committed by now; false if there is none. */
static bool
read_stream(const PevCatalog *catalog, ScanKey key, Oid index, Stream *stream)
{
	Relation table = own_table_open(catalog->streams, &own_streams, InvalidOid, AccessShareLock);
	SysScanDesc scan = systable_beginscan(table, index, true, SnapshotSelf, 1, key);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	if (found)
	{
		fill_stream(stream, tuple, RelationGetDescr(table));
		prepare_caches();
		if (!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			remember_stream(stream);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}

/* Find a keyed stream by its number. */
static bool
find_by_id(const PevCatalog *catalog, int64 id, Stream *stream)
{
	Stream *cached;
	ScanKeyData key;

	prepare_caches();
	cached = hash_search(streams, &id, HASH_FIND, NULL);
	if (cached != NULL)
	{
		*stream = *cached;
		return true;
	}
	ScanKeyInit(&key, STREAM_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return read_stream(catalog, &key, catalog->streams_id_index, stream);
}

/* Find a keyed stream by its canonical key. */
static bool
find_by_key(const PevCatalog *catalog, const char *key, int64 *id)
{
	StreamByKey *cached;
	ScanKeyData scankey;
	Stream stream;

	prepare_caches();
	cached = hash_search(streams_by_key, key, HASH_FIND, NULL);
	if (cached != NULL)
	{
		*id = cached->id;
		return true;
	}
	ScanKeyInit(&scankey, STREAM_KEY, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	if (!read_stream(catalog, &scankey, catalog->streams_key_index, &stream))
		return false;
	*id = stream.id;
	return true;
}

/* Read a kind's row; false if the kind is not declared. */
static bool
read_kind(const PevCatalog *catalog, const char *prefix, Kind *kind)
{
	Relation table = own_table_open(catalog->kinds, &own_kinds, InvalidOid, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, KIND_PREFIX, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(prefix));
	scan = systable_beginscan(table, catalog->kinds_index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum datum =
			heap_getattr(tuple, KIND_FAMILIES, RelationGetDescr(table), &kind->all_families);

		kind->count = 0;
		if (!kind->all_families)
			kind->count =
				array_elements(DatumGetArrayTypePCopy(datum), &kind->families, &kind->nulls);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* The kind of a key's prefix, or NULL if nobody declared it. */
static const Kind *
find_kind(const PevCatalog *catalog, const char *key, int prefix_len)
{
	Kind kind = {.prefix = ""};
	Kind *cached;
	MemoryContext oldcontext;
	bool found;

	if (prefix_len >= (int) sizeof(kind.prefix))
		return NULL;
	memcpy(kind.prefix, key, prefix_len);
	prepare_caches();
	cached = hash_search(kinds, kind.prefix, HASH_FIND, NULL);
	if (cached != NULL)
		return cached;
	oldcontext = MemoryContextSwitchTo(cache_context);
	found = read_kind(catalog, kind.prefix, &kind);
	MemoryContextSwitchTo(oldcontext);
	if (!found)
		return NULL;
	cached = hash_search(kinds, kind.prefix, HASH_ENTER, NULL);
	*cached = kind;
	return cached;
}

/* Does a kind carry this family? */
static bool
kind_carries(const Kind *kind, const char *family)
{
	for (int i = 0; i < kind->count; i++)
	{
		text *carried = DatumGetTextPP(kind->families[i]);

		if (!kind->nulls[i] && VARSIZE_ANY_EXHDR(carried) == strlen(family) &&
			memcmp(VARDATA_ANY(carried), family, strlen(family)) == 0)
			return true;
	}
	return kind->all_families;
}

/* The kind of a key that has a prefix.  Raises 42704 if nobody declared it. */
static const Kind *
require_kind(const PevCatalog *catalog, const char *key, int prefix_len)
{
	const Kind *kind = find_kind(catalog, key, prefix_len);

	if (kind == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("stream kind \"%.*s\" is not declared", prefix_len, key),
						errdetail("The key \"%s\" begins with a prefix that no row of "
								  "pev_stream_kind declares.",
								  key),
						errhint("Declare it with pev_register_stream_kind(), or use a key without "
								"a colon.")));
	return kind;
}

/* Insert the row of a new stream, with the rights of the table's owner. */
static int64
insert_stream(const PevCatalog *catalog, const char *key)
{
	Oid argtypes[] = {TEXTOID, TEXTOID};
	int prefix = prefix_length(key);
	Datum values[2];
	char nulls[] = {' ', prefix > 0 ? ' ' : 'n'};
	Relation table = table_open(catalog->streams, AccessShareLock);
	Oid owner = table->rd_rel->relowner;
	Oid save_userid;
	int save_sec_context;
	bool isnull;
	int64 id;
	char *sql = psprintf("INSERT INTO %s.pev_stream (key, kind) VALUES ($1, $2) RETURNING id",
						 catalog->schema_name);

	table_close(table, AccessShareLock);
	values[0] = CStringGetTextDatum(key);
	values[1] = PointerGetDatum(cstring_to_text_with_len(key, prefix));
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	if (SPI_execute_with_args(sql, 2, argtypes, values, nulls, false, 1) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not insert into pev_stream");
	/* triggers and rules of the owner's may have had their way with the row */
	if (SPI_processed != 1 || SPI_gettypeid(SPI_tuptable->tupdesc, 1) != INT8OID)
		ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
						errmsg("the row of stream \"%s\" was suppressed", key)));
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull)
		elog(ERROR, "stream \"%s\" got no number", key);
	SPI_finish();
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return id;
}

/*
 * The number of a canonical key, made if the key is new.
 *
 * Raises 42704 for a prefix that is not declared, 22003 for digits beyond
 * bigint, 25006 in a read-only transaction, 42501 without the right to emit.
 */
int64
stream_create(const PevCatalog *catalog, const char *key)
{
	int64 id;

	if (stream_key_is_number(key, &id) || find_by_key(catalog, key, &id))
		return id;
	if (prefix_length(key) > 0)
		(void) require_kind(catalog, key, prefix_length(key));
	PreventCommandIfReadOnly("creating a stream");
	/* only who may store the first event of a key may make it */
	own_table_check_insert(catalog->events, &own_events);
	turn_lock_key(hash_bytes_extended((const unsigned char *) key, strlen(key), 0));
	if (find_by_key(catalog, key, &id))
		return id;
	return insert_stream(catalog, key);
}

/*
 * May events of this family be stored in this stream?
 *
 * Raises 22023 for a number below zero that no key stands for, and for a
 * family that the stream's kind does not carry.
 */
void
stream_check(const PevCatalog *catalog, int64 id, const char *family)
{
	Stream stream;

	if (id >= 0)
		return;
	if (!find_by_id(catalog, id, &stream))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("stream " INT64_FORMAT " does not exist", id),
						errdetail("Numbers below zero belong to streams with a key."),
						errhint("Use the key, or a number that is not negative.")));
	if (stream.prefix_len == 0)
		return;
	if (kind_carries(require_kind(catalog, stream.key, stream.prefix_len), family))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("stream kind \"%.*s\" does not carry events of family \"%s\"",
						   stream.prefix_len, stream.key, family),
					errhint("See pev_stream_kind.families for what a kind carries.")));
}

/*
 * What "x-pev-stamp": "stream-name" supplies: the key without its prefix, or
 * the number of a stream that has no key.
 */
const char *
stream_name(const PevCatalog *catalog, int64 id)
{
	Stream stream;

	if (id >= 0 || !find_by_id(catalog, id, &stream))
		return psprintf(INT64_FORMAT, id);
	return pstrdup(stream.key + (stream.prefix_len > 0 ? stream.prefix_len + 1 : 0));
}

/* A stream as messages name it: its number, or its key in quotes. */
const char *
stream_display(const PevCatalog *catalog, int64 id)
{
	Stream stream;

	if (id >= 0 || !find_by_id(catalog, id, &stream))
		return psprintf(INT64_FORMAT, id);
	return psprintf("\"%s\"", stream.key);
}

/*
 * pev_stream_key_parse(key text, OUT id bigint, OUT canonical text): what SQL
 * needs to look a key up: the number it is, or else its canonical form.
 */
Datum
pev_stream_key_parse(PG_FUNCTION_ARGS)
{
	text *key = PG_GETARG_TEXT_PP(0);
	char *canonical = stream_key_canonical(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false, true};
	int64 id;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (stream_key_is_number(canonical, &id))
		values[0] = Int64GetDatum(id);
	else
	{
		nulls[0] = true;
		nulls[1] = false;
		values[1] = CStringGetTextDatum(canonical);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

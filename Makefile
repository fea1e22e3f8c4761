# pev: the extension (PGXS) and the streamer.
#
# META.json is the single source of the version. The install script is the
# concatenation of SQL_PARTS, in this order, and is named after that version.
# (The name VERSION is the server's, in PGXS.)

PEV_VERSION := $(shell sed -n 's/^   "version": "\([0-9.]*\)",$$/\1/p' META.json)

SQL_PARTS = sql/pev.sql sql/plan.sql sql/approval.sql sql/catalogue.sql sql/functions.sql \
	sql/iteration.sql sql/jobs.sql sql/agents.sql

MODULE_big = pev
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard extension/*.c)))
EXTENSION = extension/pev
DATA = $(wildcard sql/pev--*--*.sql)
DATA_built = sql/pev--$(PEV_VERSION).sql
PGFILEDESC = "pev - validated, ordered, live events of AI pipelines"

PG_CPPFLAGS = -Iextension -DPEV_VERSION='"$(PEV_VERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers \
	-Wno-sign-compare -Werror

# pg_regress looks for NAME.sql under sql/ before test/sql/, and for NAME.out
# under expected/, which both kinds of test share: their names must differ.
# pg_isolation_regress would look under output_iso/ instead, hence --outputdir.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=.

EXTRA_CLEAN = results regression.diffs regression.out sql/pev--$(PEV_VERSION).sql test-logs

.DEFAULT_GOAL := all

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)

# A server built with LLVM wants bitcode of its extensions, made by one certain
# clang. Without that clang the extension works as well, only not inlined.
PGXS_CLANG := $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)
ifeq ($(shell command -v $(firstword $(PGXS_CLANG) false)),)
override with_llvm = no
endif

include $(PGXS)

# PGXS follows headers only where the server was built with dependency tracking.
$(OBJS): $(wildcard extension/*.h) META.json

$(DATA_built): $(SQL_PARTS) META.json
	cat $(SQL_PARTS) > $@.tmp && mv $@.tmp $@

all: check-version
clean: clean-streamer

# EXTENSION_ONLY=yes leaves the streamer out: for a database server's machine.
ifndef EXTENSION_ONLY
all: streamer
install: install-streamer
uninstall: uninstall-streamer
endif

install-streamer: streamer
	$(MAKE) -C streamer install DESTDIR='$(DESTDIR)' BINDIR='$(bindir)' DOCDIR='$(docdir)/pev-streamer'

uninstall-streamer:
	$(MAKE) -C streamer uninstall DESTDIR='$(DESTDIR)' BINDIR='$(bindir)' DOCDIR='$(docdir)/pev-streamer'

else # no PostgreSQL to build against

all install installcheck:
	@echo 'No PostgreSQL server headers here ("$(PG_CONFIG) --pgxs" finds none).' >&2
	@echo 'Run "make deps", or set PG_CONFIG to the pg_config of your server.' >&2
	@exit 1

clean: clean-streamer

endif

streamer:
	$(MAKE) -C streamer

clean-streamer:
	$(MAKE) -C streamer clean

# The control file repeats the version because PostgreSQL reads it there.
check-version:
	@grep -qx "default_version = '$(PEV_VERSION)'" extension/pev.control || \
	{ echo "extension/pev.control: default_version is not $(PEV_VERSION), META.json's version" >&2; exit 1; }

deps:
	@test/bin/deps demo

deps-test:
	@test/bin/deps test

deps-bench:
	@test/bin/deps bench

demo: deps
	@test/demo/run

test: deps-test
	@test/bin/run-tests

# Options are variables, as in: make bench ONLY='B1 B4'; see test/bench/lib/options.js.
bench: deps-bench all
	@$(MAKE) --no-print-directory -s -C test/bench
	@node test/bench/run.js

soak: deps-test
	@MINUTES='$(or $(MINUTES),10)' VALGRIND='$(VALGRIND)' test/soak/run

# SECONDS of each target; needs clang.
fuzz:
	@$(MAKE) -C test/fuzz $(if $(SECONDS),SECONDS='$(SECONDS)')

check-style:
	@test/bin/check-style

help:
	@echo 'make               build the extension and the streamer'
	@echo 'make install       install both (the server is that of PG_CONFIG=$(PG_CONFIG))'
	@echo 'make installcheck  regression and isolation tests against a running server (PGHOST, PGPORT, ...)'
	@echo 'make deps          install what building and the demo need, where it is missing'
	@echo 'make deps-test     the same, and what the tests need'
	@echo 'make demo          a private server, a streamer, and two executions arriving live'
	@echo 'make test          every test suite, in private servers; ends with "N passed, N failed"'
	@echo 'make bench         pev beside its peers, in private servers; ends with a table'
	@echo 'make fuzz          fuzz the parsers of requests with libFuzzer (SECONDS=60)'
	@echo 'make soak          10 minutes (MINUTES=) of load, kills and crashes; VALGRIND=1 for a smaller one'
	@echo 'make check-style   formatting and other mechanical checks'
	@echo 'make clean         remove what was built'

.PHONY: all install uninstall installcheck clean help streamer install-streamer \
	uninstall-streamer clean-streamer check-version deps deps-test deps-bench demo test \
	bench soak fuzz check-style

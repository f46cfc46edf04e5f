# The two commands of the README are `make demo` and `make test`; both install what they need first.
# CONFIGURATION=debug builds and tests without optimisation, which is quicker to turn round while writing code.
CONFIGURATION ?= release
PREFIX ?= /usr/local
BIN = .build/$(CONFIGURATION)/elide

.PHONY: help deps build test unit-test conformance lint format demo bench pgbench soak fuzz vm-test findings install clean

help:
	@echo "make demo      the main job end to end, on a real image, with a crash in the middle"
	@echo "make test      everything that must pass before a change lands"
	@echo "make build     the elide binary: $(BIN)"
	@echo "make install   into PREFIX=$(PREFIX) (DESTDIR is honoured)"
	@echo "make lint      formatting; 'make format' applies it"
	@echo "make bench | pgbench | soak | fuzz | vm-test | findings   longer lanes, see docs/testing.md"

deps:
	@scripts/install-deps.sh

build: deps
	swift build -c $(CONFIGURATION) --product elide

test: unit-test
	@if [ -f Tests/Conformance/run.sh ]; then $(MAKE) --no-print-directory conformance; \
	else echo "conformance: not built yet (Tests/Conformance/run.sh is missing), nothing was run"; fi

# The tests see internals, which a release build shows only when told to: a build of its own, so that neither undoes the other.
TESTING = -c release -Xswiftc -enable-testing --scratch-path .build-test

unit-test: deps
	swift build $(TESTING) --build-tests
	SWIFT_BACKTRACE=enable=no swift test $(TESTING) --skip-build

conformance: deps
	swift build $(TESTING) --product elide
	@scripts/lane.sh conformance Tests/Conformance/run.sh .build-test/release/elide

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests

format:
	swift format --in-place --recursive --parallel Package.swift Sources Tests

demo: build
	@scripts/lane.sh demo scripts/demo.sh

bench: build
	@scripts/lane.sh bench Tests/Bench/bench.py --elide $(BIN)

# PostgreSQL on a volume: its speed beside nbdkit's file plugin, and what 50 kills leave of it.
pgbench: build
	@scripts/lane.sh pgbench Tests/Bench/pgbench.sh speed
	@scripts/lane.sh pgbench Tests/Bench/pgbench.sh kills

soak vm-test findings: build
	@scripts/lane.sh $@ scripts/$@.sh

fuzz: deps
	@scripts/lane.sh fuzz scripts/fuzz.sh

install: build
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/elide

clean:
	swift package clean

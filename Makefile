# The two commands of the README are `make demo` and `make test`; both install what they need first.
# CONFIGURATION=debug builds and tests without optimisation, which is quicker to turn round while writing code.
CONFIGURATION ?= release
PREFIX ?= /usr/local
BIN = .build/$(CONFIGURATION)/elide

.PHONY: help deps build test unit-test conformance libnbd-test outage nbd-chroot store-test test-s3 lint format demo demo-s3 bench pgbench soak fuzz vm-test findings install clean

help:
	@echo "make demo      the main job end to end, on a real image, with a crash in the middle"
	@echo "make demo-s3   the same, with a Ceph RADOS gateway as the store"
	@echo "make test      everything that must pass before a change lands"
	@echo "make build     the elide binary: $(BIN)"
	@echo "make install   into PREFIX=$(PREFIX) (DESTDIR is honoured)"
	@echo "make lint      formatting; 'make format' applies it"
	@echo "make bench | pgbench | outage | soak | fuzz | vm-test | findings   longer lanes, see docs/testing.md"

deps:
	@scripts/install-deps.sh

build: deps
	swift build -c $(CONFIGURATION) --product elide

test: unit-test
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory store-test

# The tests see internals, which a release build shows only when told to: a build of its own, so that neither undoes the other.
TESTING = -c release -Xswiftc -enable-testing --scratch-path .build-test

unit-test: deps
	swift build $(TESTING) --build-tests
	SWIFT_BACKTRACE=enable=no swift test $(TESTING) --skip-build

conformance: deps
	swift build $(TESTING) --product elide
	@scripts/lane.sh conformance Tests/Conformance/run.sh .build-test/release/elide

# libnbd's own tests, of Debian's source, against the server.
libnbd-test: build
	@scripts/lane.sh libnbd-test Tests/Conformance/libnbd.sh $(BIN)

nbd-chroot: build
	@scripts/lane.sh nbd-chroot scripts/nbd-chroot.sh $(BIN)

# The cases that every store must pass, on a RADOS gateway and on moto (left out where it cannot be installed), and the command line on S3.
STORE_TESTS = env SWIFT_BACKTRACE=enable=no swift test $(TESTING) --skip-build --filter 'StoreConformanceTests|StoreProbeTests'

store-test: deps
	scripts/rgw.sh run sh -ec "$(STORE_TESTS); Tests/Conformance/s3.sh .build-test/release/elide"
	@if scripts/moto.sh install; then scripts/moto.sh run sh -ec "$(STORE_TESTS); /usr/bin/python3 Tests/Conformance/requests.py .build-test/release/elide"; else echo "store-test: moto cannot be installed, its part is skipped"; fi

# The main job on S3: other people's NBD clients, damage, kills, replay, with a RADOS gateway as the store.
test-s3: deps
	swift build $(TESTING) --build-tests
	swift build $(TESTING) --product elide
	@$(MAKE) --no-print-directory store-test
	scripts/rgw.sh run Tests/Conformance/run.sh .build-test/release/elide
	scripts/rgw.sh run Tests/Conformance/s3-faults.sh .build-test/release/elide

lint:
	@scripts/findings.sh --check >/dev/null || { scripts/findings.sh --check | grep missing; exit 1; }
	swift format lint --strict --recursive --parallel Package.swift Sources Tests

format:
	swift format --in-place --recursive --parallel Package.swift Sources Tests

demo: build
	@scripts/lane.sh demo scripts/demo.sh

demo-s3: build
	@scripts/lane.sh demo-s3 scripts/rgw.sh run scripts/demo.sh

bench: build
	@scripts/lane.sh bench Tests/Bench/bench.py --elide $(BIN)

# PostgreSQL on a volume: its speed beside nbdkit's file plugin, and what 50 kills leave of it.
pgbench: build
	@scripts/lane.sh pgbench Tests/Bench/pgbench.sh speed
	@scripts/lane.sh pgbench Tests/Bench/pgbench.sh kills

# A store that is cut off for ten minutes under load.
outage: build
	scripts/moto.sh run Tests/Bench/outage.sh $(BIN)

# The bugs of others, each with the test that looks for it.
findings: deps
	swift build $(TESTING) --build-tests
	swift build $(TESTING) --product elide
	@scripts/lane.sh findings scripts/findings.sh

soak vm-test: build
	@scripts/lane.sh $@ scripts/$@.sh

fuzz: deps
	@scripts/lane.sh fuzz scripts/fuzz.sh

install: build
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/elide
	for unit in elide.service elide.socket; do \
	  install -d $(DESTDIR)$(PREFIX)/lib/systemd/system; \
	  sed 's|/usr/local/bin/|$(PREFIX)/bin/|' dist/systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN) --generate-completion-script bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/elide
	$(BIN) --generate-completion-script zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_elide
	$(BIN) --generate-completion-script fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/elide.fish

clean:
	swift package clean

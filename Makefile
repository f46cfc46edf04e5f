# The two commands of the README are `make demo` and `make test`; both install what they need first.
.PHONY: deps build test demo

deps:
	@scripts/install-deps.sh

build: deps
	swift build -c release --product elide

test: deps
	swift build -c release --build-tests
	swift test -c release --skip-build

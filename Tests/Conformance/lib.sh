#!/usr/bin/env bash
# For sourcing: counts what passes and what fails.
set -euo pipefail
passed=0
failed=0
work=$(mktemp -d /tmp/elide-conformance.XXXXXX)

# check NAME COMMAND…: the command must succeed within its deadline of DEADLINE seconds (60).
check() {
  local name=$1
  shift
  if timeout -k 5 "${DEADLINE:-60}" "$@" >"$work/out" 2>&1; then
    passed=$((passed + 1))
    echo "ok - $name"
  else
    local code=$?
    failed=$((failed + 1))
    echo "not ok - $name (exit $code)"
    tail -n 15 "$work/out" | sed 's/^/  # /'
  fi
}

skip() { echo "ok - $1 # skip: $2"; }

# The closing line and the exit code.
finish() {
  rm -rf "$work"
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

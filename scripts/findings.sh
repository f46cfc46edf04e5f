#!/usr/bin/env bash
# usage: scripts/findings.sh [--check]     the bugs of others (docs/findings.md): runs the test that looks for each
#
# One line per finding: id, then passed, failed, missing or no test, then which. Ends with 1 if a named test does not exist,
# does not run or fails. --check only looks for the tests in the sources; otherwise they must have been built (make findings).
# A test is `Suite/test`, or a script `Tests/Conformance/NAME.sh`, which gets the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
only_check=no
case ${1:-} in
  "") ;;
  --check) only_check=yes ;;
  *) sed -n '2p' "$0" >&2 && exit 2 ;;
esac
log=$(mktemp)
trap 'rm -f "$log"' EXIT
declare -A known=()

exists() { # TEST
  case $1 in
    Tests/Conformance/*.sh) [ -x "$1" ] ;;
    ?*/?*)
      local files
      files=$(grep -rlE --include='*.swift' "(struct|class) ${1%%/*}\b" Tests) || return 1
      # shellcheck disable=SC2086
      awk -v name="${1#*/}" '/@Test/ { marked = 1 }
        marked && match($0, /func [A-Za-z0-9_]+/) { if (substr($0, RSTART + 5, RLENGTH - 5) == name) found = 1; marked = 0 }
        END { exit !found }' $files
      ;;
    *) return 1 ;;
  esac
}

run() { # TEST
  case $1 in
    Tests/*) "$1" .build-test/release/elide >"$log" 2>&1 </dev/null ;;
    *)
      SWIFT_BACKTRACE=enable=no swift test -c release -Xswiftc -enable-testing --scratch-path .build-test --skip-build \
        --filter "$1\\(" >"$log" 2>&1 </dev/null || return 1
      # A filter that matches nothing succeeds.
      grep -qE 'Test run with [1-9][0-9]* tests?.* passed' "$log"
      ;;
  esac
}

verdict() { # TEST
  if ! exists "$1"; then
    echo missing
  elif [ "$only_check" = yes ]; then
    echo exists
  elif run "$1"; then
    echo passed
  else
    echo failed
    tail -n 20 "$log" >&2
  fi
}

failed=0
rows=0
while IFS='|' read -r _ id _ _ test _; do
  id=${id// /}
  rows=$((rows + 1))
  test=$(sed 's/^ *//; s/ *$//' <<<"$test")
  case $test in
    '`'*'`')
      test=${test//\`/}
      [ -n "${known[$test]:-}" ] || known[$test]=$(verdict "$test")
      printf '%-4s %-8s %s\n' "$id" "${known[$test]}" "$test"
      case ${known[$test]} in missing | failed) failed=1 ;; esac
      ;;
    'not built'* | 'no test yet'*) printf '%-4s %-8s %s\n' "$id" "no test" "$test" ;;
    *)
      printf '%-4s %-8s %s\n' "$id" missing "neither a test nor a reason: $test"
      failed=1
      ;;
  esac
done < <(grep -E '^\| F[0-9]+ \|' docs/findings.md)
if [ "$rows" = 0 ]; then
  echo "findings: docs/findings.md has no table" >&2
  exit 1
fi
exit "$failed"

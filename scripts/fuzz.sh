#!/usr/bin/env bash
# usage: scripts/fuzz.sh [TARGET…]     searches, with coverage as the guide, for bytes that stop a parser
#
# Each target (all of them, or those named) gets FUZZ_SECONDS (60), the seeds of fixtures/fuzz/TARGET and what earlier runs
# found worth keeping in FUZZ_CORPUS (.build-fuzz/corpus). An input that stops a target is left in .build-fuzz/findings, and
# the script ends with 1. Copied to fixtures/fuzz/TARGET/found-<what it is>, it becomes a test (FuzzCorpusTests).
# FUZZ_JOBS targets run at a time (1).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
corpus=${FUZZ_CORPUS:-$PWD/.build-fuzz/corpus}
findings=$PWD/.build-fuzz/findings
export ELIDE_FUZZ=1 SWIFT_BACKTRACE=enable=no
# Leaks: the Swift run-time has some of its own.
export ASAN_OPTIONS=detect_leaks=0:symbolize=0:allocator_may_return_null=1

# gold, the default linker, stops at an internal error here.
swift build -c release --scratch-path .build-fuzz --product elide-fuzz --sanitize=address -Xswiftc -sanitize=fuzzer \
  -Xswiftc -Xclang-linker -Xswiftc -fuse-ld=lld
fuzz=.build-fuzz/release/elide-fuzz
mkdir -p "$corpus" "$findings"

run() { # TARGET [FOLDER OF SEEDS…]
  local target=$1 folders=() log=$findings/$1.log
  shift
  mkdir -p "$corpus/$target"
  for f in "fuzz/$target" "$@"; do [ ! -d "fixtures/$f" ] || folders+=("fixtures/$f"); done
  # To a file, and with a hard limit: a reporter of crashes would keep a pipe open.
  if timeout -k 5 $((seconds + 120)) "$fuzz" "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="$findings/$target-" "$corpus/$target" "${folders[@]}" \
    >"$log" 2>&1 </dev/null; then
    printf '%-12s %s runs, coverage %s, nothing found\n' "$target" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -c6-)"
  else
    printf '%-12s FOUND SOMETHING: %s\n' "$target" "$(ls -t "$findings/$target"-* 2>/dev/null | head -1) ($log)"
    return 1
  fi
}

failed=0
jobs=0
while read -r target folders; do
  if [ $# -gt 0 ] && [[ " $* " != *" $target "* ]]; then continue; fi
  # shellcheck disable=SC2086
  run "$target" $folders &
  jobs=$((jobs + 1))
  if [ "$jobs" -ge "${FUZZ_JOBS:-1}" ]; then
    wait -n || failed=1
    jobs=$((jobs - 1))
  fi
done < <("$fuzz" targets)
while [ "$jobs" -gt 0 ]; do
  wait -n || failed=1
  jobs=$((jobs - 1))
done
exit "$failed"

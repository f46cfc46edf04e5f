#!/usr/bin/env bash
# Kills a serving process N times under a verifying writer: nothing acknowledged is lost, it opens again within two seconds of
# work, and at the end the replay of its history agrees.   kills.sh [N]
set -euo pipefail
cd "$(dirname "$0")/../.."
n=${1:-20}
elide=${ELIDE:-$PWD/.build/release/elide}
work=$(mktemp -d /tmp/elide-kills-XXXXXX)
server=""
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$work"' EXIT
ELIDE_STORE=$(scripts/test-store.sh kills "$work")
export ELIDE_DATA_DIR=$work/data ELIDE_STORE SWIFT_BACKTRACE=enable=no
"$elide" volume create v --size 1G >/dev/null
uri="nbd+unix:///v?socket=$work/s"
slowest=0
for i in $(seq "$n"); do
  begin=$(date +%s%N)
  "$elide" serve v --nbd "unix:$work/s" 2>>"$work/log" & server=$!
  for _ in $(seq 1200); do nbdinfo --size "$uri" >/dev/null 2>&1 && break; kill -0 "$server" || { cat "$work/log"; echo "0 passed, 1 failed"; exit 1; }; done
  took=$((($(date +%s%N) - begin) / 1000000))
  [ "$took" -gt "$slowest" ] && slowest=$took
  if [ "$i" -gt 1 ]; then
    /usr/bin/python3 Tests/Conformance/writer.py --check "$uri" "$work/acked" > "$work/check" || { echo "after kill $((i - 1)):"; cat "$work/check"; echo "0 passed, 1 failed"; exit 1; }
  fi
  touch "$work/acked"
  before=$(wc -l < "$work/acked")
  want=$((before + 100 + RANDOM % 1500))
  /usr/bin/python3 Tests/Conformance/writer.py "$uri" "$work/acked" 100000 2>/dev/null & writer=$!
  for _ in $(seq 100000); do [ "$(wc -l < "$work/acked")" -ge "$want" ] && break; kill -0 "$writer" 2>/dev/null || break; done
  kill -9 "$server"; wait "$server" 2>/dev/null || true; server=""
  wait "$writer" 2>/dev/null || true
done
"$elide" serve v --nbd "unix:$work/s" --run "/usr/bin/python3 Tests/Conformance/writer.py --check '$uri' '$work/acked'"
"$elide" events verify v
"$elide" events replay v --verify
"$elide" events replay v --verify --from-store
echo "$n kills; slowest start to first answer ${slowest} ms"
echo "1 passed, 0 failed"

#!/usr/bin/env bash
# usage: scripts/moto.sh run Tests/Bench/outage.sh PATH/elide [SECONDS [SIZE]]      (or scripts/rgw.sh run)
#
# A store that is cut off for SECONDS (600) under load. First within the limits: fio writes and verifies SIZE (512M) over NBD, a
# reader wants blocks that only the store has; no request fails, what was wanted comes when the store is back, everything is
# shipped, and a third host reads back all of it. Then beyond them: a volume may hold 128 MiB that the store has not; a guest that
# writes as fast as it can is slowed, gets ENOSPC, goes on when the store is back, and nothing acknowledged is lost.
set -euo pipefail
cd "$(dirname "$0")/../.."
elide=$(realpath "$1")
seconds=${2:-600}
size=${3:-512M}
: "${ELIDE_TEST_S3:?run me by scripts/moto.sh or scripts/rgw.sh}"
work=$(mktemp -d /tmp/elide-outage.XXXXXX)
started=()
stop() {
  local i
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do kill "${started[i]}" 2>/dev/null || true; done
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do wait "${started[i]}" 2>/dev/null || true; done
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM
fail() { echo "outage: $*"; tail -n 5 "$work"/*.log; echo "0 passed, 1 failed"; exit 1; }
# In the background as it is, not through a function: signals are for the process itself.
guest=(/usr/bin/python3 Tests/Bench/outage.py)

upstream=$(sed -E 's#.*endpoint=http://([^&]*).*#\1#' <<<"$ELIDE_TEST_S3")
python3 Tests/Bench/store_proxy.py "$upstream" --port-file "$work/port" >"$work/proxy.log" 2>&1 &
started+=($!)
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.1; done
at=127.0.0.1:$(cat "$work/port")
export ELIDE_TEST_S3=${ELIDE_TEST_S3/$upstream/$at} SWIFT_BACKTRACE=enable=no
ELIDE_STORE=$(scripts/test-store.sh outage "$work")
export ELIDE_STORE
outage() { curl -sS --fail "http://$at/-/set?outage=$1" >/dev/null; }
on() { local host=$1; shift; ELIDE_DATA_DIR=$work/$host "$elide" "$@"; }
json() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
field() { on "$1" volume status "$2" --json | json "['$3']"; }
serve() { # HOST VOLUME OPTION…: sets server and uri
  local host=$1 volume=$2
  shift 2
  uri="nbd+unix:///$volume?socket=$work/s"
  ELIDE_DATA_DIR=$work/$host "$elide" serve "$volume" --nbd "unix:$work/s" "$@" 2>>"$work/serve.log" & server=$!
  started+=("$server")
  for _ in $(seq 600); do nbdinfo --size "$uri" >/dev/null 2>&1 && return 0; kill -0 "$server" || break; sleep 0.1; done
  fail "$volume is not served"
}
end_service() {
  kill "$server"
  wait "$server" || fail "the server ended with $?"
}
volume_of() { field "$1" "$2" volume; }

base=65536 # blocks: 256 MiB that only the store has
echo "a volume of 256 MiB, published by host a and forked by host b"
on a volume create base --size 2G >/dev/null
serve a base
"${guest[@]}" fill "$uri" 0 "$base"
end_service
on b volume create v --from "$(volume_of a base)" >/dev/null
v=$(volume_of b v)

echo "within the limits: $seconds s without the store"
serve b v
bytes=$(numfmt --from=iec "$size")
rate=$((bytes / (seconds + 60) / 1024))
fio_job=(--name=load --ioengine=nbd "--uri=$uri" --rw=randwrite --bsrange=4k-64k --iodepth=8 --offset=$((base * 4096))
  "--size=$size" --verify=crc32c --verify_fatal=1 --randseed=7 --output-format=terse --allow_file_create=0)
fio "${fio_job[@]}" "--rate=${rate}k" --verify_backlog=512 >"$work/fio.out" 2>"$work/fio.log" &
fio=$!
started+=("$fio")
"${guest[@]}" read "$uri" 0 "$base" 20 "$work/slow" >"$work/reader.log" 2>&1 &
reader=$!
started+=("$reader")
sleep 10
outage 1
cut=$SECONDS
waited=0
while ((SECONDS - cut < seconds)); do
  sleep 2
  kill -0 "$reader" 2>/dev/null || fail "the reader ended in the outage"
  silent=$(field b v unreachableMilliseconds)
  waiting=$(field b v waitingFetches)
  [ "$silent" -gt 0 ] && [ "$waiting" -gt 0 ] && waited=1
  if ((SECONDS - cut >= seconds / 2)) && [ -z "${told-}" ]; then
    told=1
    unsent=$(($(field b v unsentBytes) >> 20))
    echo "half of it: no answer for $((silent / 1000)) s, $waiting fetches wait, $unsent MiB unsent, writing: $(field b v writing)"
  fi
done
[ "$waited" = 1 ] || fail "status never said that the store does not answer and reads wait for it"
outage 0
wait "$fio" || fail "fio: $(cat "$work/fio.log")"
sleep 5
kill "$reader"
wait "$reader" || fail "the reader: $(cat "$work/reader.log")"
cat "$work/reader.log"
[ -s "$work/slow" ] || fail "no read waited for the store"
echo "longest read: $(cut -d' ' -f2 "$work/slow" | sort -n | tail -1) s; failed reads: $(field b v failedReads)"
end_service
[ "$(field b v unsentBytes)" = 0 ] || fail "not everything was shipped"
serve c "$v"
"${guest[@]}" check "$uri" 0 "$base"
fio "${fio_job[@]}" "--uri=$uri" --verify_only --do_verify=1 >"$work/fio.out" 2>"$work/fio.log" ||
  fail "another host: fio: $(cat "$work/fio.log")"
end_service
echo "a third host has read back all of it"

echo "beyond them: at most 128 MiB unsent"
on b volume create w --size 2G >/dev/null
serve b w --unsent-bytes 128M
w=$(volume_of b w)
outage 1
"${guest[@]}" push "$uri" 0 131072 "$work/pushed" & pusher=$!
started+=("$pusher")
cut=$SECONDS
until grep -q ENOSPC "$work/pushed" 2>/dev/null; do
  kill -0 "$pusher" 2>/dev/null || fail "the pusher ended"
  ((SECONDS - cut < 900)) || fail "no ENOSPC in a quarter of an hour"
  sleep 1
done
[ "$(field b w writing)" = refused ] || fail "status says that writes are $(field b w writing)"
unsent=$(($(field b w unsentBytes) + $(field b w unsealedBytes)))
echo "ENOSPC after $((SECONDS - cut)) s, with $((unsent >> 20)) MiB unsent"
[ "$unsent" -ge $((120 << 20)) ] && [ "$unsent" -le $((200 << 20)) ] || fail "ENOSPC with $unsent bytes unsent"
sleep 10
outage 0
kill -USR1 "$pusher"
wait "$pusher" || fail "the pusher ended with $?"
end_service
[ "$(field b w unsentBytes)" = 0 ] || fail "not everything was shipped"
serve c "$w"
"${guest[@]}" check "$uri" 0 131072 "$work/pushed.acked"
end_service
on b events replay w --verify --from-store
echo "1 passed, 0 failed"

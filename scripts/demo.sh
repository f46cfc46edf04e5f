#!/usr/bin/env bash
# The main job, end to end, on real input: import an ext4 image, fork it, serve the fork, write through an NBD client, kill the
# server in the middle, recover, ship, and read it on a second host with an empty cache. Prints what it did.
set -euo pipefail
cd "$(dirname "$0")/.."
elide=${ELIDE:-$PWD/.build/release/elide}
work=$(mktemp -d /tmp/elide-demo-XXXXXX)
server=""
cleanup() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
export ELIDE_DATA_DIR=$work/host-a
ELIDE_STORE=$(scripts/test-store.sh demo "$work")
export ELIDE_STORE
echo "store: $ELIDE_STORE"

say() { printf '\n\033[1m%s\033[0m\n' "$*" | { [ -t 1 ] && cat || sed 's/\x1b\[[0-9;]*m//g'; }; }
field() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval("d"+sys.argv[1]))' "$1"; }
# Waits until an export answers; the server is a background job of this shell.
wait_for() {
  for _ in $(seq 600); do
    nbdinfo --size "$1" >/dev/null 2>&1 && return 0
    kill -0 "$server" 2>/dev/null || { echo "the server ended" >&2; return 1; }
    read -r -t 0.1 <> <(:) || true
  done
  echo "no answer from $1" >&2
  return 1
}
serve() { # export, socket name, data directory, options
  ELIDE_DATA_DIR=${3:-$ELIDE_DATA_DIR} "$elide" serve "$1" --nbd "unix:$work/$2" "${@:4}" 2>>"$work/server.log" &
  server=$!
  wait_for "nbd+unix:///$1?socket=$work/$2"
}

say "1. A real ext4 image from Debian packages"
scripts/demo-image.sh "$work/root.img" 2G

say "2. Import it: deduplicated, compressed, in the store when the command returns"
time "$elide" volume import debian "ext4:$work/root.img"
"$elide" store stat

say "3. Fork it: no data is copied"
"$elide" volume create vm1 --from debian
"$elide" volume list

say "4. Serve the fork and write through an NBD client; kill the server in the middle"
serve vm1 a.sock
uri="nbd+unix:///vm1?socket=$work/a.sock"
python=/usr/bin/python3
$python Tests/Conformance/writer.py "$uri" "$work/acked" 1200 & writer=$!
for _ in $(seq 600); do
  [ -e "$work/acked" ] && [ "$(wc -l < "$work/acked")" -ge 400 ] && break
  read -r -t 0.05 <> <(:) || true
done
kill -9 "$server"; wait "$server" 2>/dev/null || true; server=""
wait "$writer" 2>/dev/null || true
echo "killed after $(wc -l < "$work/acked") acknowledged writes"

say "5. Start again: every acknowledged write is there"
serve vm1 a.sock
$python Tests/Conformance/writer.py --check "$uri" "$work/acked"

say "6. Ship: a snapshot is published when the store has everything in it"
"$elide" snapshot create vm1 --label shipped
"$elide" volume status vm1
nbdcopy "$uri" "$work/a.img"
kill "$server"; wait "$server" || true; server=""

say "7. A second host: an empty data directory and the same store"
serve vm1 b.sock "$work/host-b" --read-only
urib="nbd+unix:///vm1?socket=$work/b.sock"
$python - "$urib" <<'PY'
import nbd, sys
h = nbd.NBD(); h.connect_uri(sys.argv[1])
h.pread(4096, 1024 * 1024)
print("first read answered; size", h.get_size() >> 20, "MiB")
PY
echo "fetched after the first read: $(du -sk "$work/host-b/cache" | cut -f1) KiB of cache for a volume of 2 GiB"
kill "$server"; wait "$server" || true; server=""
echo "opening and that read: $(tail -1 "$work/server.log")"
serve vm1 b.sock "$work/host-b" --read-only
nbdcopy "$urib" "$work/b.img"
cmp "$work/a.img" "$work/b.img" && echo "both hosts read the same 2 GiB, byte for byte"
e2fsck -fn "$work/b.img" >/dev/null 2>&1 && echo "e2fsck: clean" || echo "e2fsck: the raw writes of step 4 went over the file system, as meant"
kill "$server"; wait "$server" || true; server=""
echo "reading all of it: $(tail -1 "$work/server.log")"

say "8. The history: verified and replayed from the store alone"
ELIDE_DATA_DIR=$work/host-b "$elide" events verify vm1 --from-store --deep
ELIDE_DATA_DIR=$work/host-b "$elide" events replay vm1 --from-store --verify
"$elide" events log vm1 --last 8
say "Done."

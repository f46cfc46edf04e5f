#!/usr/bin/env bash
# usage: run.sh [PATH/elide | COMMAND…]
#
# Starts a server, and other people's NBD clients against it. Given the elide binary it serves a volume, checks and replays its
# history afterwards, and kills the server KILLS times under a writer. In COMMAND, {socket} and {size} stand for the Unix socket to
# listen on and the bytes of the export "disk" (or of the default export, with EXPORT= in the environment). Without a
# command: the server of devices in memory, with each manner of completion.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
size=$((128 << 20))
export=${EXPORT-disk}
export SWIFT_BACKTRACE=enable=no
status=0

serve() {
  local dir socket pid command=() word
  dir=$(mktemp -d /tmp/elide-serve.XXXXXX)
  socket=$dir/socket
  for word in "$@"; do
    word=${word//\{socket\}/$socket}
    command+=("${word//\{size\}/$size}")
  done
  echo "# ${command[*]}"
  "${command[@]}" >"$dir/log" 2>&1 &
  pid=$!
  for _ in $(seq 200); do
    [ -S "$socket" ] && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  local uri="nbd+unix:///$export?socket=$socket"
  "$here/nbd.sh" "$uri" || status=1
  timeout 300 /usr/bin/python3 "$here/errors.py" "$uri" || status=1
  kill -TERM "$pid" 2>/dev/null || true
  if wait "$pid"; then
    echo "ok - the server stopped by itself when asked"
  else
    echo "not ok - the server ended with $?"
    tail -n 20 "$dir/log" | sed 's/^/  # /'
    status=1
  fi
  rm -rf "$dir"
}

# The real thing: a volume in a data directory of its own, and then a server that is killed again and again.
elide() {
  local data
  data=$(mktemp -d /tmp/elide-data.XXXXXX)
  ELIDE_STORE=$("$here/../../scripts/test-store.sh" conformance "$data")
  export ELIDE_DATA_DIR=$data/host ELIDE_STORE
  "$1" volume create disk --size "$size" >/dev/null || return 1
  timeout 600 /usr/bin/python3 "$here/commands.py" "$1" || status=1
  timeout 600 /usr/bin/python3 "$here/badinput.py" "$1" || status=1
  timeout 900 /usr/bin/python3 "$here/coordinator.py" "$1" || status=1
  timeout 600 /usr/bin/python3 "$here/handover.py" "$1" "${HANDOVERS-6}" || status=1
  timeout 600 /usr/bin/python3 "$here/audit.py" "$1" || status=1
  timeout 300 /usr/bin/python3 "$here/in-place.py" "$1" || status=1
  timeout 120 /usr/bin/python3 "$here/../Linearizability/check.py" --self-test || status=1
  timeout 300 /usr/bin/python3 "$here/../Linearizability/over.py" "$1" || status=1
  if [ "$(id -u)" = 0 ]; then
    timeout 900 /usr/bin/python3 "$here/full-disk.py" "$1" || status=1
  else
    echo "# full-disk.py mounts small file systems, as root: skipped"
  fi
  serve "$1" serve disk --nbd "unix:{socket}"
  timeout 300 /usr/bin/python3 "$here/nbd-activation.py" "$1" || status=1
  timeout 600 "$here/nbd-tls.sh" "$1" || status=1
  "$1" events verify disk --from-store --deep || status=1
  "$1" events replay disk --from-store --verify || status=1
  rm -rf "$data"
  ELIDE=$1 timeout 600 "$here/kills.sh" "${KILLS-10}" || status=1
}

case ${1-} in
*/elide) elide "$(realpath "$1")" ;;
?*) serve "$@" ;;
*)
  cd "$here/../.." || exit 1
  swift build -c release --product nbd-memory >/dev/null || exit 1
  server=$(swift build -c release --show-bin-path)/nbd-memory
  for manner in immediate committed shuffled; do serve "$server" "unix:{socket}" "{size}" "$manner"; done
  ;;
esac
exit $status

#!/usr/bin/env bash
# usage: run.sh [COMMAND…]
#
# Starts a server, and other people's NBD clients against it. In COMMAND, {socket} and {size} stand for the Unix socket to
# listen on and the bytes of the export "disk" (or of the default export, with EXPORT= in the environment). Without a
# command: the server of devices in memory, with each manner of completion.
set -u
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
  kill -TERM "$pid" 2>/dev/null
  if wait "$pid"; then
    echo "ok - the server stopped by itself when asked"
  else
    echo "not ok - the server ended with $?"
    tail -n 20 "$dir/log" | sed 's/^/  # /'
    status=1
  fi
  rm -rf "$dir"
}

if [ $# -gt 0 ]; then
  serve "$@"
else
  cd "$here/../.."
  swift build -c release --product nbd-memory >/dev/null || exit 1
  server=$(swift build -c release --show-bin-path)/nbd-memory
  for manner in immediate committed shuffled; do serve "$server" "unix:{socket}" "{size}" "$manner"; done
fi
exit $status

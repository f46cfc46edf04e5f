#!/usr/bin/env bash
# usage: libnbd.sh PATH/elide
#
# libnbd's own interoperability and error tests, built from Debian's source of the installed version, run as programs against a
# server of ours. The interoperability tests start the server themselves; most others ask for nbdkit on standard input and output,
# and get a bridge to the server's socket in its place; two want a socket.
set -euo pipefail
elide=$(realpath "${1:?usage: libnbd.sh PATH/elide}")
PATH=/usr/bin:/usr/sbin:/bin:$PATH
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
"$here/../../scripts/install-deps.sh" libnbd-dev dpkg-dev socat gcc libc6-dev gnutls-bin
daemons=()
trap 'kill -9 "${daemons[@]}" 2>/dev/null; rm -rf "$work"' EXIT
export ELIDE_DATA_DIR=$work/host ELIDE_STORE=file://$work/store SWIFT_BACKTRACE=enable=no

# --- the source, by apt, with package lists of its own so that the system's stay as they are
mkdir -p "$work/apt/parts" "$work/apt/lists/partial" "$work/source" "$work/bin"
for f in /etc/apt/sources.list.d/*.sources; do
  [ ! -e "$f" ] || sed 's/^Types:.*/Types: deb-src/' "$f" >"$work/apt/parts/$(basename "$f")"
done
{ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
  sed -n 's/^deb /deb-src /p' >"$work/apt/parts/one.list"
apt=(-q -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/apt/parts" -o "Dir::State::lists=$work/apt/lists"
  -o APT::Sandbox::User=root)
(cd "$work/source" && apt-get "${apt[@]}" update && apt-get "${apt[@]}" source --download-only libnbd) >"$work/apt/log" 2>&1 ||
  { tail -n 5 "$work/apt/log" >&2; echo "libnbd's source cannot be had" >&2; exit 1; }
tar -C "$work/source" --strip-components 1 -xf "$work"/source/libnbd_*.orig.tar.*z
src=$work/source
touch "$src/config.h"

# build NAME SOURCE [DEFINITION…]
build() {
  local name=$1 source=$2
  shift 2
  gcc -w -O1 -I"$src" -I"$src/common/include" -I"$src/tests" "$@" -o "$work/bin/$name" "$src/$source" "$src/tests/requires.c" \
    -lnbd -lpthread
}

# run NAME COMMAND…: the test's directory is tests/, as libnbd's own make has it.
run() {
  local name=$1
  shift
  DEADLINE=120 check "libnbd: $name" env -C "$src/tests" "$@"
}

# --- the server, for the tests that bring none
"$elide" volume create one --size 1M >/dev/null
for size in 1048576 2097152 8388608 67108864 68157440; do
  "$elide" volume create "v$size" --size "$size" >/dev/null
  "$elide" serve "v$size" --nbd "unix:$work/v$size" >"$work/serve-v$size" 2>&1 &
  daemons+=($!)
  timeout 30 sh -c "until [ -S '$work/v$size' ]; do sleep 0.05; done"
done

mkdir "$work/shim"
cat >"$work/shim/nbdkit" <<S
#!/bin/sh
# In nbdkit's place: the volume of the size that is asked for, on standard input and output.
for word; do
  case \${word#size=} in
  *[!0-9]*m) ;;
  *[0-9]m | *[0-9]M) size=\$((\$(echo "\${word#size=}" | tr -d mM) << 20)) ;;
  *[!0-9]* | '') ;;
  *) size=\${word#size=} ;;
  esac
done
exec socat - "UNIX-CONNECT:$work/v\${size:-1048576}"
S
chmod +x "$work/shim/nbdkit"

# Left out: errors-server-zerosize, which wants nbdkit's error for a read of no bytes, which the protocol leaves open.
for test in errors-bad-cookie errors-client-oversize errors-client-unknown-flags errors-client-zerosize errors-connect-twice \
  errors-not-negotiating errors-notify-not-blocked errors-pread-structured errors-server-invalid-offset \
  errors-server-unknown-flags shutdown-flags opt-abort opt-list-meta; do
  build "$test" "tests/$test.c"
  run "$test" env "PATH=$work/shim:$PATH" "$work/bin/$test"
done

# --- integrity and load: eight connections with 64 requests each, and one after the other, against a copy in memory
for pair in aio-parallel:67108864 synch-parallel:8388608; do
  test=${pair%:*} size=${pair#*:}
  build "$test" "tests/$test.c"
  nbdcopy -- [ nbdkit pattern "size=$size" ] "nbd+unix:///?socket=$work/v$size"
  run "$test" "$work/bin/$test" "$work/v$size"
done

# --- interoperability: libnbd starts the server and hands it the socket
serve="-DSERVER=\"$elide\" -DSOCKET_ACTIVATION=1"
words() { printf '"%s",' "$@" | sed 's/,$//'; }
# shellcheck disable=SC2086
interop() { # NAME SOURCE DEFINITIONS SERVE-ARGUMENTS…
  local name=$1 source=$2 definitions=$3
  shift 3
  build "$name" "interop/$source.c" $serve $definitions -DSERVER_PARAMS="$(words serve "$@")"
  run "$name" "$work/bin/$name"
}
interop interop interop "" one
interop socket-activation socket-activation "" one
"$elide" volume create two --size 1M >/dev/null
interop list-exports list-exports '-DEXPORTS="one","two" -DDESCRIPTIONS="",""' one two
interop export-name interop '-DEXPORT_NAME="two"' one two

# The keys and certificates where libnbd's tests look for them, by libnbd's own script.
(cd "$src/tests" && SRCDIR=. CERTTOOL=certtool bash make-pki.sh pki) >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; exit 1; }
psktool -u alice -p "$src/tests/keys.psk" >/dev/null 2>&1
pki=(--tls-certificates "$src/tests/pki")
psk=(--tls-psk "$src/tests/keys.psk")
require=-DTLS_MODE=LIBNBD_TLS_REQUIRE allow=-DTLS_MODE=LIBNBD_TLS_ALLOW
interop tls-certificates interop "-DCERTS=1 $require" one --tls require "${pki[@]}"
interop tls-certificates-allow interop "-DCERTS=1 $allow" one --tls require "${pki[@]}"
interop tls-certificates-fallback interop "-DCERTS=1 $allow -DTLS_FALLBACK=1" one --tls off
interop tls-psk interop "-DPSK=1 $require" one --tls require "${psk[@]}"
interop tls-psk-allow interop "-DPSK=1 $allow" one --tls allow "${psk[@]}"
interop tls-psk-fallback interop "-DPSK=1 $allow -DTLS_FALLBACK=1" one --tls off

finish

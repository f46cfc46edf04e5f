#!/usr/bin/env bash
# usage: nbd-tls.sh PATH/elide | PATH/nbd-memory
#
# TLS with other people's clients, which speak it by GnuTLS: certificates and pre-shared keys, right ones and wrong ones, and
# clients without TLS. elide serves the volume "disk" of ELIDE_DATA_DIR; what is on it is lost.
set -euo pipefail
server=${1:?usage: nbd-tls.sh PATH/elide or PATH/nbd-memory}
PATH=/usr/bin:/usr/sbin:/bin:$PATH
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
pid=

# --- files: an authority, a server, a client, a client that was turned away, and another authority's client
sign() { # DIRECTORY NAME SUBJECT EXTENSIONS
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1/$2-key.pem" -out "$work/request" 2>/dev/null
  openssl x509 -req -in "$work/request" -CA "$1/ca-cert.pem" -CAkey "$1/ca-key.pem" -CAcreateserial -days 2 -out "$1/$2-cert.pem" \
    -extfile <(printf '%b' "$4") 2>/dev/null
}
authority() {
  mkdir -p "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=authority $(basename "$1")" -days 2 -keyout "$1/ca-key.pem" \
    -out "$1/ca-cert.pem" 2>/dev/null
  sign "$1" client "a client" "extendedKeyUsage=clientAuth\n"
}
pki=$work/pki
other=$work/other
authority "$pki"
authority "$other"
sign "$pki" server localhost "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
# An authority and nothing to show; and the certificate of a stranger.
mkdir "$work/bare" "$work/stranger"
cp "$pki/ca-cert.pem" "$work/bare"
cp "$pki/ca-cert.pem" "$other"/client-*.pem "$work/stranger"
key() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
mkdir "$work/psk" "$work/wrongpsk"
printf 'alice:%s\nbob:%s\n' "$(key)" "$(key)" >"$work/psk/keys.psk"
printf 'alice:%s\n' "$(key)" >"$work/wrongpsk/keys.psk"
# QEMU takes one user's key.
mkdir "$work/alice"
grep alice "$work/psk/keys.psk" >"$work/alice/keys.psk"

# start MODE [certificates] [psk] [verify]: the server, with its socket in $socket and a port in $port
start() {
  local mode=$1 word arguments=(--tls "$1") environment=(NBD_MEMORY_LOG=1)
  shift
  for word in "$@"; do
    case $word in
    certificates) arguments+=(--tls-certificates "$pki") environment+=("NBD_MEMORY_CERTIFICATES=$pki") ;;
    psk) arguments+=(--tls-psk "$work/psk/keys.psk") environment+=("NBD_MEMORY_PSK=$work/psk/keys.psk") ;;
    verify) arguments+=(--tls-verify-peer) environment+=(NBD_MEMORY_VERIFY=1) ;;
    esac
  done
  [ "$mode" = allow ] && environment+=(NBD_MEMORY_ALLOW=1)
  socket=$work/socket
  rm -f "$socket"
  case $server in
  */elide) "$server" serve disk --nbd "unix:$socket" --nbd tcp:127.0.0.1:0 "${arguments[@]}" >"$work/log" 2>&1 & ;;
  *) env "${environment[@]}" "$server" "unix:$socket" 134217728 shuffled >"$work/log" 2>&1 & ;;
  esac
  pid=$!
  for _ in $(seq 300); do
    timeout 5 nbdsh -c "import socket; socket.socket(socket.AF_UNIX).connect('$socket')" 2>/dev/null && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  sed -n 's/.*tcp:127.0.0.1:\([0-9]*\).*/\1/p' "$work/log" >"$work/port"
  port=$(tail -n 1 "$work/port")
}
stop() {
  kill -TERM "$pid"
  check "the server stops by itself" tail --pid="$pid" -f /dev/null
}
trap '[ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null || true' EXIT
export work pki
refused() { # NAME COMMAND…: must fail by itself, and soon
  local name=$1
  shift
  check "$name: refused" sh -c 'timeout 20 "$@"; code=$?; [ $code -ne 0 ] && [ $code -ne 124 ]' - "$@"
}
nbds() { echo "nbds+unix://${2-}/disk?socket=$socket&$1"; }

x509="tls-certificates=$pki"
# img TLS-OBJECT COMMAND…: qemu-img COMMAND on the export, with {} for it. A program, so that it can be checked.
img() {
  local object=$1 word arguments=()
  shift
  for word in "$@"; do
    arguments+=("${word//\{\}/driver=nbd,server.type=unix,server.path=$socket,export=disk,tls-creds=t,tls-hostname=localhost}")
  done
  qemu-img "${arguments[0]}" --object "$object,id=t,endpoint=client" "${arguments[@]:1}"
}
export -f img
export socket
image=(bash -c 'img "$@"' -)
head -c 24M /dev/urandom >"$work/source"
truncate -s 128M "$work/source"

# --- required, with certificates
start require certificates
check "x509: nbdinfo" nbdinfo "$(nbds "$x509")"
check "x509: nbdinfo --list" nbdinfo --list "$(nbds "$x509")"
check "x509: nbdinfo tells that it is TLS" sh -c 'nbdinfo "$0" | grep -q "newstyle-fixed with TLS"' "$(nbds "$x509")"
check "x509: nbdcopy in, four connections" nbdcopy --flush "$work/source" "$(nbds "$x509")"
check "x509: nbdcopy out" nbdcopy "$(nbds "$x509")" "$work/copy"
check "x509: the same comes out" cmp "$work/source" "$work/copy"
creds="tls-creds-x509,dir=$pki"
check "x509: qemu-img compare" "${image[@]}" "$creds" compare --image-opts "driver=file,filename=$work/source" "{}"
check "x509: qemu-img convert" "${image[@]}" "$creds" convert --image-opts -O raw "{}" "$work/qemu"
check "x509: qemu-img: the same comes out" cmp "$work/source" "$work/qemu"
check "x509: without a certificate of the client" nbdinfo "$(nbds "tls-certificates=$work/bare")"
if [ -n "$port" ]; then
  check "x509: the name in the certificate" nbdinfo "nbds://localhost:$port/disk?$x509"
  check "x509: nbdcopy over TCP" nbdcopy "nbds://localhost:$port/disk?$x509" null:
  # Without the name of a host, libnbd looks at no certificate of the server.
  refused "x509: a client that trusts another authority" nbdinfo "nbds://localhost:$port/disk?tls-certificates=$other"
fi
check "x509: nbdkit's nbd plugin, by another client" nbdkit -U - nbd "socket=$socket" export=disk tls=require "tls-certificates=$pki" \
  --run 'nbdcopy "$uri" null:'
refused "x509: a client with a key instead" nbdinfo "$(nbds "tls-psk-file=$work/psk/keys.psk" alice@)"
refused "a client without TLS" nbdinfo "nbd+unix:///disk?socket=$socket"
refused "qemu-img without TLS" qemu-img info "nbd+unix:///disk?socket=$socket"
refused "nbdinfo --list without TLS" nbdinfo --list "nbd+unix:///?socket=$socket"
check "libnbd: TLS is asked for, and nothing said before" nbdsh -c "
h.set_opt_mode(True)
h.connect_uri('nbd+unix:///disk?socket=$socket')
for call in (h.opt_info, lambda: h.opt_list(lambda *a: None), h.opt_go):
    try: call(); raise SystemExit('it was answered')
    except nbd.Error: pass
h.opt_abort()"
check "openssl: TLS 1.2 and 1.3, nothing older, no compression, no tickets" /usr/bin/python3 "$here/nbd-tls.py" "$socket" "$pki"
stop

# --- clients must show theirs
start require certificates verify
check "peer verified: nbdinfo" nbdinfo "$(nbds "$x509")"
refused "peer verified: no certificate" nbdinfo "$(nbds "tls-certificates=$work/bare")"
refused "peer verified: a stranger's certificate" nbdinfo "$(nbds "tls-certificates=$work/stranger")"
check "peer verified: qemu-img" "${image[@]}" "$creds" info --image-opts "{}"
refused "peer verified: qemu-img without one" "${image[@]}" "tls-creds-x509,dir=$work/bare" info --image-opts "{}"
stop

# --- pre-shared keys
start require psk
alice="tls-psk-file=$work/psk/keys.psk"
check "psk: nbdinfo" nbdinfo "$(nbds "$alice" alice@)"
check "psk: another user" nbdinfo "$(nbds "$alice" bob@)"
check "psk: nbdcopy in" nbdcopy --flush "$work/source" "$(nbds "$alice" alice@)"
check "psk: nbdcopy out" nbdcopy "$(nbds "$alice" alice@)" "$work/copy"
check "psk: the same comes out" cmp "$work/source" "$work/copy"
check "psk: qemu-img compare" "${image[@]}" "tls-creds-psk,dir=$work/alice,username=alice" compare --image-opts \
  "driver=file,filename=$work/source" "{}"
check "psk: nbdkit's nbd plugin, by another client" nbdkit -U - nbd "socket=$socket" export=disk tls=require tls-username=alice \
  "tls-psk=$work/psk/keys.psk" --run 'nbdcopy "$uri" null:'
refused "psk: a wrong key" nbdinfo "$(nbds "tls-psk-file=$work/wrongpsk/keys.psk" alice@)"
printf 'eve:%s\n' "$(key)" >>"$work/psk/eve.psk"
refused "psk: an unknown user" nbdinfo "$(nbds "tls-psk-file=$work/psk/eve.psk" eve@)"
refused "psk: a client with a certificate instead" nbdinfo "$(nbds "$x509")"
refused "psk: a client without TLS" nbdinfo "nbd+unix:///disk?socket=$socket"
stop

# --- both at once; and allowed only
start allow certificates psk
check "allowed: with a key" nbdinfo "$(nbds "$alice" alice@)"
check "allowed: with certificates" nbdinfo "$(nbds "$x509")"
check "allowed: without TLS" nbdinfo "nbd+unix:///disk?socket=$socket"
check "allowed: libnbd, TLS if there is" nbdsh -c "
h.set_tls(nbd.TLS_ALLOW); h.set_tls_certificates('$pki'); h.connect_unix('$socket')
assert h.get_tls_negotiated()"
stop
finish

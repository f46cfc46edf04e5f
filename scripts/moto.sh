#!/usr/bin/env bash
# usage: scripts/moto.sh run COMMAND…     runs COMMAND with an S3 server of moto's beside it, and stops the server afterwards
#        scripts/moto.sh install          only installs it (a Python environment in .build/moto, once)
#
# COMMAND sees ELIDE_TEST_S3 (a store URL with an empty bucket), and credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
# moto keeps everything in memory, and does not check signatures: for that there is scripts/rgw.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${ELIDE_MOTO_DIR:-$PWD/.build/moto}
server=""

install() {
  [ -x "$environment/bin/moto_server" ] && return 0
  # Debian keeps the module that makes environments in a package of its own.
  python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/install-deps.sh python3-venv
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install -q --disable-pip-version-check 'moto[server]>=5.1,<6'
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
  local port work=$1
  port=$(free_port)
  "$environment/bin/moto_server" -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 &
  server=$!
  local endpoint=http://127.0.0.1:$port
  for _ in $(seq 150); do
    curl -s -o /dev/null "$endpoint/" && break
    kill -0 "$server" 2>/dev/null || { tail -n 20 "$work/moto.log" >&2; return 1; }
    sleep 0.2
  done
  export AWS_ACCESS_KEY_ID=testkey AWS_SECRET_ACCESS_KEY=testsecret
  unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_REGION AWS_DEFAULT_REGION
  curl -sS --fail -o /dev/null -X PUT "$endpoint/elide-test"
  export ELIDE_TEST_S3="s3://elide-test?endpoint=$endpoint&region=us-east-1"
}

stop() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  rm -rf "$work"
}

case ${1-} in
install) install ;;
run)
  shift
  install
  work=$(mktemp -d /tmp/elide-moto.XXXXXX)
  trap stop EXIT
  trap 'exit 130' INT TERM
  start "$work"
  "$@"
  ;;
*)
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
  ;;
esac

#!/usr/bin/env bash
# usage: scripts/rgw.sh run COMMAND…     runs COMMAND with a Ceph RADOS gateway beside it, and stops the cluster afterwards
#        scripts/rgw.sh install          only installs the packages
#
# One monitor, one OSD that keeps its objects in memory, one gateway, all on 127.0.0.1 and of Debian's packages; about 130 MB.
# COMMAND sees ELIDE_TEST_S3 (a store URL with an empty bucket), and credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
set -euo pipefail
cd "$(dirname "$0")/.."
daemons=()

install() {
  command -v ceph-mon >/dev/null && command -v ceph-osd >/dev/null && command -v radosgw >/dev/null && command -v ceph >/dev/null ||
    scripts/install-deps.sh ceph-mon ceph-osd radosgw ceph-common
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Version 1 of the messenger only: without cephx the gateway hangs in its authentication over version 2.
configuration() { # DIRECTORY FSID MONITOR-PORT GATEWAY-PORT
  cat <<C
[global]
fsid = $2
mon host = v1:127.0.0.1:$3
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd numa auto affinity = false
# Both commands are sent by an OSD at its start, maybe before it has the monitor map, and then it ends with 'wrong fsid'.
osd crush update on start = false
osd class update on start = false
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
setuser match path =
run dir = $1/run
log file = $1/log/\$name.log
admin socket = $1/run/\$name.\$pid.asok
pid file = $1/run/\$name.pid
[mon.a]
mon data = $1/mon
[osd.0]
osd data = $1/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd memory target = 1073741824
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$4
rgw data = $1/rgw
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 64
rgw num rados handles = 1
rgw dynamic resharding = false
C
}

# until TRIES COMMAND…: tries every 0.2 s.
until_true() {
  local tries=$1
  shift
  for _ in $(seq "$tries"); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.2
  done
  echo "rgw.sh: this did not become true: $*" >&2
  tail -n 5 "$work"/log/*.out >&2
  return 1
}

osd_is_up() { ceph "${C[@]}" osd stat | grep -q '1 up'; }

# Fails where a part does not come up; it is called where `set -e` does not reach.
start() {
  local fsid osd port
  mkdir -p "$work"/{mon,osd,run,log,rgw}
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd=$(cat /proc/sys/kernel/random/uuid)
  port=$(free_port)
  monitor=$(free_port)
  configuration "$work" "$fsid" "$monitor" "$port" >"$work/ceph.conf"
  C=(-c "$work/ceph.conf")
  monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$monitor]" "$work/monmap" >/dev/null
  ceph-mon "${C[@]}" -i a --mkfs --monmap "$work/monmap"
  ceph-mon "${C[@]}" -i a -f >"$work/log/mon.out" 2>&1 &
  daemons+=($!)
  until_true 100 ceph "${C[@]}" --connect-timeout 5 mon stat || return 1
  # The OSD must be made with the very id that the monitor knows, or its boot is dropped without a word.
  ceph "${C[@]}" osd new "$osd" 0 >/dev/null
  ceph-osd "${C[@]}" -i 0 --mkfs --osd-uuid "$osd" >"$work/log/osd-mkfs.out" 2>&1
  ceph "${C[@]}" osd crush add osd.0 1.0 root=default >/dev/null 2>&1
  ceph-osd "${C[@]}" -i 0 -f >"$work/log/osd.out" 2>&1 &
  daemons+=($!)
  until_true 150 osd_is_up || return 1
  radosgw "${C[@]}" -n client.rgw -f >"$work/log/rgw.out" 2>&1 &
  daemons+=($!)
  until_true 300 curl -s --fail "http://127.0.0.1:$port/" || return 1
  make_user_and_bucket "http://127.0.0.1:$port"
}

make_user_and_bucket() {
  export AWS_ACCESS_KEY_ID=testkey AWS_SECRET_ACCESS_KEY=testsecret
  unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_REGION AWS_DEFAULT_REGION
  timeout 60 radosgw-admin "${C[@]}" -n client.rgw user create --uid=test --display-name=test \
    --access-key=$AWS_ACCESS_KEY_ID --secret=$AWS_SECRET_ACCESS_KEY >/dev/null 2>"$work/log/admin.out"
  curl -sS --fail -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -X PUT "$1/elide-test" || return 1
  export ELIDE_TEST_S3="s3://elide-test?endpoint=$1&region=us-east-1"
}

stop() {
  local i
  # The gateway first, the monitor last. Nothing of it is kept, so no farewells.
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
    kill -9 "${daemons[i]}" 2>/dev/null || true
    wait "${daemons[i]}" 2>/dev/null || true
  done
  daemons=()
  rm -rf "$work"
}

case ${1-} in
install) install ;;
run)
  shift
  install
  trap stop EXIT
  trap 'exit 130' INT TERM
  # A daemon of a cluster may miss its start on a busy machine; a new cluster is the remedy, and is not what is tested.
  for try in 1 2 3; do
    work=$(mktemp -d /tmp/elide-rgw.XXXXXX)
    if start; then break; fi
    stop
    [ "$try" -lt 3 ] || exit 1
  done
  "$@"
  ;;
*)
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
  ;;
esac

#!/usr/bin/env bash
# usage: scripts/rgw.sh run Tests/Conformance/s3-faults.sh PATH/elide [KILLS]
#
# The kills of kills.sh with a proxy before the store that loses one request in ten, one answer in ten, says 503 to one in
# ten, and breaks off one body in ten in either direction: nothing acknowledged is lost, and what is in the store in the end
# replays to what is on the host. A run in which one of these did not happen to a PUT, or none to a GET, has failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
elide=$(realpath "$1")
: "${ELIDE_TEST_S3:?run me by scripts/rgw.sh or scripts/moto.sh}"
work=$(mktemp -d /tmp/elide-faults.XXXXXX)
proxy=""
trap '[ -z "$proxy" ] || kill "$proxy" 2>/dev/null || true; rm -rf "$work"' EXIT
upstream=$(sed -E 's#.*endpoint=http://([^&]*).*#\1#' <<<"$ELIDE_TEST_S3")
python3 Tests/Bench/store_proxy.py "$upstream" --port-file "$work/port" >"$work/log" 2>&1 &
proxy=$!
for _ in $(seq 100); do
  [ -s "$work/port" ] && break
  kill -0 "$proxy"
  sleep 0.1
done
at=127.0.0.1:$(cat "$work/port")
export ELIDE_TEST_S3=${ELIDE_TEST_S3/$upstream/$at}
curl -sS --fail "http://$at/-/set?drop_request=0.1&drop_response=0.1&error=0.1&cut_request=0.1&cut_response=0.1" >/dev/null
ELIDE=$elide Tests/Conformance/kills.sh "${2:-20}"
curl -sS "http://$at/-/stats" >"$work/stats"
echo "through the proxy: $(cat "$work/stats")"
python3 - "$work/stats" <<'P'
import json, sys
fates = json.load(open(sys.argv[1]))["fates"]
for fate in ("drop_request", "drop_response", "error", "cut_request"):
    if not fates.get(fate, {}).get("PUT"):
        sys.exit(f"no PUT met {fate}: more kills are needed")
if not any("GET" in of for of in fates.values()):
    sys.exit("no GET met any of it: more kills are needed")
P

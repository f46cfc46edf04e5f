#!/usr/bin/env bash
# usage: scripts/rgw.sh run Tests/Conformance/s3.sh PATH/elide     (or scripts/moto.sh)
#
# What the command line says and does with a bucket: settings, credentials, errors and their exit codes, the probe, and a volume's
# life from one host to another. The store itself is tested by StoreConformanceTests.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
elide=$(realpath "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${ELIDE_TEST_S3:?run me by scripts/rgw.sh or scripts/moto.sh}"
export ELIDE_DATA_DIR=$work/host SWIFT_BACKTRACE=enable=no
ELIDE_STORE=$("$root/scripts/test-store.sh" cli "$work")
export ELIDE_STORE
endpoint=$(sed -E 's/.*endpoint=([^&]*).*/\1/' <<<"$ELIDE_STORE")
key=$AWS_ACCESS_KEY_ID secret=$AWS_SECRET_ACCESS_KEY
checks_signatures=$(curl -s -o /dev/null -w '%{http_code}' "$endpoint/elide-test?list-type=2") # 403 where it does

# fails CODE WORDS COMMAND…: ends with that code and says those words, without the secret, within its deadline.
fails() {
  local code=$1 words=$2 got=0
  shift 2
  "$@" >"$work/said" 2>&1 || got=$?
  cat "$work/said"
  [ "$got" = "$code" ] || { echo "ended with $got, not $code"; return 1; }
  grep -qF -- "$words" "$work/said" || { echo "does not say: $words"; return 1; }
  ! grep -qF -- "$secret" "$work/said" || { echo "shows the secret"; return 1; }
}
export -f fails
export work secret

check "no credentials" env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY HOME="$work/nobody" bash -c 'fails 13 "no credentials" "$0" store init' "$elide"
check "half of the credentials" env -u AWS_SECRET_ACCESS_KEY bash -c 'fails 13 "AWS_SECRET_ACCESS_KEY is not" "$0" store init' "$elide"
check "a bucket that is not there" bash -c 'fails 13 "there is no bucket '"'nowhere'"'" "$0" store init --store "s3://nowhere?endpoint='"$endpoint"'"' "$elide"
check "nobody listens" bash -c 'fails 75 "cannot reach http://127.0.0.1:1" "$0" store init --store "s3://b?endpoint=http://127.0.0.1:1"' "$elide"
check "no such host" bash -c 'fails 75 "cannot reach" "$0" store init --store "s3://b?endpoint=http://no-such-host.invalid"' "$elide"
check "TLS where there is none" bash -c 'fails 75 "broke off" "$0" store init --store "s3://b?endpoint='"${endpoint/http:/https:}"'"' "$elide"
check "a URL with a password" bash -c 'fails 13 "without a password" "$0" store init --store "s3://b?endpoint=http://me:$secret@h"' "$elide"
check "a key in the URL" bash -c 'fails 2 "unknown parameter" "$0" store init --store "s3://b?secret=$secret"' "$elide"
if [ "$checks_signatures" = 403 ]; then
  check "an unknown key" env AWS_ACCESS_KEY_ID=nobody bash -c 'fails 13 "does not know this access key" "$0" store init' "$elide"
  check "a wrong secret" env AWS_SECRET_ACCESS_KEY=wrong bash -c 'fails 13 "the signature does not match" "$0" store init' "$elide"
else
  skip "wrong keys" "this server does not check signatures"
fi
mkdir -p "$work/aws"
printf '[default]\naws_access_key_id = nobody\naws_secret_access_key = none\n[work]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
  "$key" "$secret" >"$work/aws/credentials"
check "keys of a profile" env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY AWS_SHARED_CREDENTIALS_FILE="$work/aws/credentials" \
  AWS_PROFILE=work "$elide" store init
check "the endpoint from the environment" env AWS_ENDPOINT_URL_S3="$endpoint" "$elide" store init --store "${ELIDE_STORE%%\?*}"
check "it is the same store" bash -c '[ "$("$0" store init | sed "s/.* //")" = "$(AWS_ENDPOINT_URL="$1" "$0" store init --store "${ELIDE_STORE%%\?*}" | sed "s/.* //")" ]' "$elide" "$endpoint"

check "store probe" "$elide" store probe
check "store probe --json" bash -c '"$0" store probe --json | python3 -c "
import json, sys
d = json.load(sys.stdin)
assert d[\"usable\"] and len(d[\"checks\"]) == 12 and len(d[\"latencies\"]) == 4, d
assert all(c[\"result\"] == \"yes\" for c in d[\"checks\"] if c[\"need\"] == \"needed\"), d"' "$elide"
check "nothing is left of the probes" bash -c '[ "$(ELIDE_STORE_COPY=1 "$0" store copy "file://$work/copy" && ls "$work/copy")" != "" ] && [ ! -e "$work/copy/probe" ]' "$elide"

# A volume's life: written here, read there.
check "a volume" "$elide" volume create v1 --size 64M
check "written and shipped" "$elide" serve v1 --nbd "unix:$work/a.sock" --run \
  'qemu-io -f raw -c "write -P 7 0 4M" -c "write -P 9 10M 64k" -c flush "$uri" && '"$elide"' snapshot create v1 --label done'
volume=$("$elide" volume list --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["volumes"][0]["volume"])' || echo none)
check "read on another host" env ELIDE_DATA_DIR="$work/other" "$elide" serve "$volume" --nbd "unix:$work/b.sock" --run \
  'qemu-io -r -f raw -c "read -P 7 0 4M" -c "read -P 9 10M 64k" -c "read -P 0 20M 1M" "$uri" | tee /dev/stderr | grep -c "Pattern verification failed" | grep -qx 0'
check "its history, from the store alone" env ELIDE_DATA_DIR="$work/other" "$elide" events verify "$volume" --from-store --deep
check "replayed" env ELIDE_DATA_DIR="$work/other" "$elide" events replay "$volume" --from-store --verify
check "copied into a directory and replayed there" bash -c '"$0" store copy "file://$work/mirror" && "$0" events replay "$1" --from-store --verify --store "file://$work/mirror"' "$elide" "$volume"
check "counted" bash -c '"$0" store stat | grep -q "$1"' "$elide" "$volume"

finish

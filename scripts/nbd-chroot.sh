#!/usr/bin/env bash
# usage: nbd-chroot.sh PATH/elide [DIRECTORY]
#
# NBD clients of Debian 13, which know extended headers, against an elide that serves a volume here. They live in a directory tree
# made by mmdebstrap from the mirror that apt uses (.build/trixie; half a minute and 300 MB, once). Needs root.
set -euo pipefail
elide=$(realpath "${1:?usage: nbd-chroot.sh PATH/elide [DIRECTORY]}")
cd "$(dirname "$0")/.."
root=${2:-$PWD/.build/trixie}
[ "$(id -u)" = 0 ] || { echo "nbd-chroot: only root can chroot" >&2; exit 2; }

if [ ! -f "$root/complete" ]; then
  command -v mmdebstrap >/dev/null || apt-get install -y -q --no-install-recommends mmdebstrap >/dev/null
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' | grep -v security | awk '$2 == "main" {print $1; exit}')
  [ -n "$mirror" ] || { echo "nbd-chroot: apt knows no Debian mirror" >&2; exit 2; }
  rm -rf "$root"
  mkdir -p "$root"
  mmdebstrap --quiet --variant=minbase --include=libnbd-bin,python3-libnbd,qemu-utils trixie "$root" \
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main"
  touch "$root/complete"
fi

work=$(mktemp -d /tmp/elide-chroot.XXXXXX)
mkdir -p "$root/run/elide"
pid=
finish() {
  [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
  umount "$root/run/elide" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
mount --bind "$work" "$root/run/elide"
cp Tests/Conformance/nbd-extended.py Tests/Conformance/cases.py "$work/"
export ELIDE_DATA_DIR=$work/host ELIDE_STORE=file://$work/store
# Larger than any request of 32 bits.
"$elide" volume create disk --size $((1 << 40)) >/dev/null
"$elide" serve disk --nbd "unix:$work/socket" >"$work/log" 2>&1 &
pid=$!
for _ in $(seq 300); do
  [ -S "$work/socket" ] && break
  kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
status=0
chroot "$root" nbdinfo --version | sed -n 1p
chroot "$root" timeout 120 python3 /run/elide/nbd-extended.py "nbd+unix:///disk?socket=/run/elide/socket" || status=1
kill -TERM "$pid"
wait "$pid" || { echo "not ok - the server ended with $?"; status=1; }
pid=
exit $status

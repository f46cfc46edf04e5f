#!/usr/bin/env bash
# Installs what the build and the tests need on Debian and Ubuntu; does nothing when all of it is there.
set -euo pipefail
packages=(liblmdb-dev liburing-dev libzstd-dev libssl-dev libcurl4-openssl-dev pkg-config e2fsprogs nbdkit libnbd-bin
  python3-libnbd nbdfuse fuse3 qemu-utils fio make)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
  echo "installing: ${missing[*]}"
  $sudo apt-get update -q >/dev/null
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v swift >/dev/null || { echo "Swift 6.3 or newer must be on PATH (https://www.swift.org/install/linux)" >&2; exit 1; }

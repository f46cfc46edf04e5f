#!/usr/bin/env bash
# Installs what building and testing need on Debian and Ubuntu; does nothing when all of it is there. What each package is
# for: docs/dependencies.md. install-deps.sh [PACKAGE...]: packages that one lane needs besides.
set -euo pipefail

packages=(
  liblmdb-dev liburing-dev libzstd-dev libssl-dev libcurl4-openssl-dev pkg-config make
  e2fsprogs openssl nbdkit libnbd-bin python3-libnbd fuse3 qemu-utils fio curl python3-yaml "$@"
)

check_swift() {
  if ! command -v swift >/dev/null; then
    echo "Swift 6.3 or newer must be on PATH: https://www.swift.org/install/linux" >&2
    exit 1
  fi
  local version
  version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+\.[0-9]+).*/\1/p' | head -n 1)
  if [ -z "$version" ] || [ "$(printf '%s\n' 6.3 "$version" | sort -V | head -n 1)" != 6.3 ]; then
    echo "Swift 6.3 or newer is needed, but $(command -v swift) is ${version:-of unknown version}:" \
      "https://www.swift.org/install/linux" >&2
    exit 1
  fi
}

missing_packages() {
  local p
  for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || echo "$p"
  done
  # A package of its own on some releases, a part of libnbd-bin on others.
  command -v nbdfuse >/dev/null || echo nbdfuse
}

check_swift
if ! command -v dpkg-query >/dev/null; then
  echo "This is neither Debian nor Ubuntu: if something is missing, install what these are here: ${packages[*]}" >&2
  exit 0
fi
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Neither root nor sudo: ask for these packages to be installed: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -q &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } \
  >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install: ${missing[*]}" >&2
  exit 1
fi

#!/usr/bin/env bash
# Makes a real ext4 image from Debian packages: demo-image.sh IMAGE SIZE
# Packages are downloaded with apt-get, unpacked without installing, and put into the file system by mke2fs -d.
set -euo pipefail
image=$1 size=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debs" "$work/root"
packages="coreutils bash dash util-linux e2fsprogs perl-base perl-modules-5.36 libc6 libssl3 libstdc++6 python3.11-minimal
  libpython3.11-minimal libpython3.11-stdlib git vim-runtime groff-base libicu72"
(cd "$work/debs" && for p in $packages; do apt-get download -q "$p" >/dev/null 2>&1 || true; done)
count=0
for deb in "$work"/debs/*.deb; do
  [ -e "$deb" ] || continue
  dpkg-deb -x "$deb" "$work/root"
  count=$((count + 1))
done
[ "$count" -ge 8 ] || { echo "could download only $count packages; is there a package mirror?" >&2; exit 1; }
truncate -s "$size" "$image"
mke2fs -q -t ext4 -L elide-demo -d "$work/root" "$image"
echo "$count packages, $(du -sm "$work/root" | cut -f1) MB of files, image of $size"

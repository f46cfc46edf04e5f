#!/usr/bin/env bash
# How much a second host fetches: an imported 2 GiB image is opened with an empty cache, and whole directory trees of about 5 % of its
# allocated bytes are read through the file system.   fetch.sh [TREE…]; SETTINGS is an elide.toml for that host
set -euo pipefail
cd "$(dirname "$0")/../.."
elide=${ELIDE:-$PWD/.build/release/elide}
work=$(mktemp -d /tmp/elide-fetch-XXXXXX)
trap 'rm -rf "$work"' EXIT
export ELIDE_DATA_DIR=$work/a ELIDE_STORE=file://$work/store
trees=("$@")
[ ${#trees[@]} -gt 0 ] || trees=(/usr/share/vim/vim90/syntax /usr/share/perl/5.36.0/unicore /usr/lib/python3.11/asyncio /usr/lib/git-core/mergetools /usr/share/vim/vim90/doc)
scripts/demo-image.sh "$work/root.img" 2G
"$elide" volume import image "ext4:$work/root.img"
volume=$("$elide" volume list --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["volumes"][0]["volume"])')
stored=$(du -sb "$work/store/volumes/$volume/segments" | cut -f1)
allocated=$(($(stat -c %b "$work/root.img") * 512))
mkdir "$work/out" "$work/mnt"
reads=""
for t in "${trees[@]}"; do reads+="debugfs -R 'rdump $t $work/out' $work/mnt/nbd 2>/dev/null >/dev/null; "; done
ELIDE_DATA_DIR=$work/b "$elide" serve "$volume" --nbd "unix:$work/s" --run "true" 2>"$work/open.log"
rm -rf "$work/b"
if [ -n "${SETTINGS:-}" ]; then mkdir "$work/b" && printf '%s\n' "$SETTINGS" >"$work/b/elide.toml"; fi
ELIDE_DATA_DIR=$work/b "$elide" serve "$volume" --nbd "unix:$work/s" --run "
  nbdfuse -r -P $work/pid $work/mnt \"\$uri\" & for i in \$(seq 200); do [ -s $work/pid ] && break; sleep 0.05; done
  $reads
  fusermount3 -u $work/mnt" 2>"$work/read.log"
echo "open, nothing read:  $(grep ^store: "$work/open.log")"
echo "open and trees read: $(grep ^store: "$work/read.log")"
python3 - "$allocated" "$stored" "$(du -sb "$work/out" | cut -f1)" "$(grep ^store: "$work/read.log")" <<'PY'
import re, sys
allocated, stored, read = map(int, sys.argv[1:4])
amount, unit = re.search(r"([0-9.]+) ([KMG]?i?B) read", sys.argv[4]).groups()
fetched = float(amount) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
print(f"read {read / allocated:.1%} of the allocated bytes; fetched {fetched / stored:.1%} of the stored bytes ({fetched / 2**20:.1f} of {stored / 2**20:.1f} MiB)")
PY

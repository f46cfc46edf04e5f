#!/usr/bin/env bash
# usage: nbd.sh URI
#
# Other people's NBD clients against a writable export of at least 64 MiB. What is on it is lost.
set -euo pipefail
uri=${1:?usage: nbd.sh URI}
# The Python that has the bindings of libnbd.
PATH=/usr/bin:/usr/sbin:/bin:$PATH
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
mib=1048576
size=$(timeout 20 nbdinfo --size "$uri") || { echo "Bail out! no export at $uri"; exit 2; }
[ "$size" -ge $((64 * mib)) ] || { echo "Bail out! the export has less than 64 MiB"; exit 2; }

# 64 MiB of noise, zeros and holes.
/usr/bin/python3 - "$work/source" "$size" <<'PY'
import random, sys
noise = random.Random(5)
with open(sys.argv[1], "wb") as f:
    for mib in range(0, 64, 4):
        f.seek(mib << 20)
        f.write(noise.randbytes(1 << 20))
        f.write(bytes(1 << 20))
        f.seek((mib + 3 << 20) + 777)
        f.write(noise.randbytes(70001))
    f.truncate(int(sys.argv[2]))
PY

nbdsh() { check "$1" nbdsh --base-allocation -u "$uri" -c "$2"; }

# --- nbdinfo
check "nbdinfo" nbdinfo "$uri"
check "nbdinfo --json" nbdinfo --json "$uri"
check "nbdinfo --list" nbdinfo --list "$uri"
check "nbdinfo --map" nbdinfo --map "$uri"
check "nbdinfo --map=elide:residency" nbdinfo --map=elide:residency "$uri"
for what in flush fua trim zero fast-zero df multi-conn cache structured-reply; do
  check "nbdinfo --can $what" nbdinfo --can "$what" "$uri"
done
check "nbdinfo: not read-only" sh -c '! nbdinfo --is read-only "$1"' - "$uri"

# --- nbdcopy
check "nbdcopy in" nbdcopy --flush "$work/source" "$uri"
check "nbdcopy out" nbdcopy "$uri" "$work/copy"
check "nbdcopy: the same comes out" cmp "$work/source" "$work/copy"
check "nbdcopy in, allocated, small requests" nbdcopy --allocated --request-size=4096 "$work/source" "$uri"
check "nbdcopy out, one connection, synchronous" nbdcopy --synchronous --connections=1 "$uri" "$work/copy2"
check "nbdcopy: the same comes out again" cmp "$work/source" "$work/copy2"
check "nbdcopy out, without extents" nbdcopy --no-extents "$uri" "$work/copy3"
check "nbdcopy: and once more" cmp "$work/source" "$work/copy3"

# --- qemu
qemu_uri=$uri
check "qemu-img info" qemu-img info "$qemu_uri"
check "qemu-img compare" qemu-img compare -f raw -F raw "$work/source" "$qemu_uri"
check "qemu-img map" qemu-img map --output=json "$qemu_uri"
check "qemu-img convert out" qemu-img convert -f raw -O raw "$qemu_uri" "$work/qemu"
check "qemu-img convert: the same" cmp "$work/source" "$work/qemu"
check "qemu-img convert in" qemu-img convert -n -f raw -O raw "$work/source" "$qemu_uri"
check "qemu-img convert in, out of order" qemu-img convert -n -W -m 8 -f raw -O raw "$work/source" "$qemu_uri"
check "qemu-img compare after that" qemu-img compare -f raw -F raw "$work/source" "$qemu_uri"
qio() {
  local name=$1
  shift
  local commands=()
  for c in "$@"; do commands+=(-c "$c"); done
  check "qemu-io: $name" sh -c '! "$@" 2>&1 | tee /dev/stderr | grep -qiE "fail|error|verification"' - \
    qemu-io -f raw "${commands[@]}" "$qemu_uri"
}
qio "write, flush, verify" "write -P 0x5a 1M 2M" flush "read -P 0x5a 1M 2M"
qio "bytes and odd places" "write -P 7 1234567 4321" "read -P 7 1234567 4321" "write -P 8 4095 2" "read -P 8 4095 2"
qio "zeroes" "write -P 9 4M 1M" "write -z 4M 1M" "read -P 0 4M 1M" "write -P 9 4M 1M" "write -z -u 4100K 100K" \
  "read -P 0 4100K 100K" "read -P 9 4M 4K" "read -P 9 4200K 800K"
qio "zeroes over half blocks" "write -P 3 8M 64K" "write -z 8389000 10000" "read -P 3 8M 392" "read -P 0 8389000 10000" \
  "read -P 3 8399000 1000"
qio "discard" "write -P 4 10M 1M" "discard 10M 1M" "read 10M 1M"
qio "forced writes" "write -f -P 6 12M 64K" "read -P 6 12M 64K"
qio "many at once" "aio_write -P 1 16M 1M" "aio_write -P 2 17M 1M" "aio_write -P 3 18M 64k" "aio_read 0 1M" aio_flush \
  "read -P 1 16M 1M" "read -P 2 17M 1M" "read -P 3 18M 64k"
check "qemu-img bench" qemu-img bench -f raw -t none -c 2000 -d 32 -s 4096 -w "$qemu_uri"

# --- fio, verifying what it wrote
fio_job() {
  local name=$1
  shift
  check "fio: $name" fio --name=j --ioengine=nbd --uri="$uri" --size=48M --verify=crc32c --verify_fatal=1 --do_verify=1 \
    --verify_backlog=4096 --verify_state_save=0 --randrepeat=1 "$@"
}
fio_job "random 4k, depth 32" --rw=randwrite --bs=4k --iodepth=32
fio_job "odd sizes, depth 64" --rw=randwrite --bsrange=512-128k --bs_unaligned=1 --iodepth=64
fio_job "sequential 1m" --rw=write --bs=1m --iodepth=8
fio_job "mixed with flushes" --rw=randrw --bs=4k --iodepth=16 --fsync=8 --io_size=8M
fio_job "three jobs at once" --rw=randwrite --bs=8k --iodepth=16 --numjobs=3 --size=16M --offset_increment=16M
fio_job "more than 128 in flight" --rw=randwrite --bs=4k --iodepth=400

# --- libnbd
nbdsh "libnbd: read and write with each flag" '
h.pwrite(b"x" * 5000, 100, nbd.CMD_FLAG_FUA)
chunks = []
h.pread_structured(5000, 100, lambda data, at, status, error: chunks.append((bytes(data), at)), nbd.CMD_FLAG_DF)
assert chunks == [(b"x" * 5000, 100)]
h.zero(5000, 100, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(5000, 100) == bytes(5000)
h.trim(4096, 0, nbd.CMD_FLAG_FUA); h.cache(1 << 20, 0); h.flush()'
nbdsh "libnbd: 32 MiB in one request" '
import random
data = random.Random(1).randbytes(32 << 20)
h.pwrite(data, 4096)
assert h.pread(32 << 20, 4096) == data'
nbdsh "libnbd: holes and block status agree with the data" '
h.trim(8 << 20, 0) ; h.zero(8 << 20, 0)
h.pwrite(b"y" * 4096, 1 << 20)
assert h.pread(8 << 20, 0) == bytes(1 << 20) + b"y" * 4096 + bytes((7 << 20) - 4096)
seen = []
h.block_status(8 << 20, 0, lambda name, at, entries, err: seen.extend(entries) if name == "base:allocation" else None)
at = 0
for length, flags in zip(seen[::2], seen[1::2]):
    if flags & 2: assert not (at <= 1 << 20 < at + length), seen
    at += length
one = []
h.block_status(8 << 20, 0, lambda name, at, entries, err: one.extend(entries), nbd.CMD_FLAG_REQ_ONE)
assert len(one) == 2 and one[0] <= 8 << 20, one'
nbdsh "libnbd: structured read in pieces" '
h.zero(1 << 20, 0); h.pwrite(b"z" * 100, 500000)
got = bytearray(b"?" * (1 << 20))
def chunk(data, at, status, error):
    got[at:at + len(data)] = data if status == nbd.READ_DATA else bytes(len(data))
h.pread_structured(1 << 20, 0, chunk)
assert got == bytes(500000) + b"z" * 100 + bytes((1 << 20) - 500100)'
nbdsh "libnbd: 300 requests in flight" '
bufs = [nbd.Buffer.from_bytearray(bytearray([i % 251] * 4096)) for i in range(300)]
cookies = [h.aio_pwrite(b, i * 4096) for i, b in enumerate(bufs)]
while cookies:
    cookies = [c for c in cookies if not h.aio_command_completed(c)]
    if cookies: h.poll(-1)
for i in range(300): assert h.pread(4096, i * 4096) == bytes([i % 251] * 4096)'
check "libnbd: a flush covers the other connection, simple replies" nbdsh -c "
uri = '$uri'
a = nbd.NBD(); a.connect_uri(uri)
b = nbd.NBD(); b.set_request_structured_replies(False); b.connect_uri(uri)
assert a.can_multi_conn() and not b.get_structured_replies_negotiated()
a.pwrite(b'shared' * 1000, 5); b.flush()
assert b.pread(6000, 5) == b'shared' * 1000
a.shutdown(); b.shutdown()"
check "libnbd: option mode" nbdsh -c "
h.set_opt_mode(True); h.connect_uri('$uri')
h.opt_info(); assert h.get_size() == $size
names = []; h.opt_list(lambda name, text: names.append(name)); assert names
found = []
h.opt_list_meta_context(lambda c: found.append(c)); assert 'base:allocation' in found and 'elide:residency' in found
found.clear(); h.add_meta_context('base:'); h.opt_list_meta_context(lambda c: found.append(c)); assert found == ['base:allocation']
h.clear_meta_contexts(); h.add_meta_context('elide:residency')
h.opt_go(); assert h.can_meta_context('elide:residency') and not h.can_meta_context('base:allocation')
h.shutdown()"
check "libnbd: abort, and a name that is not there" nbdsh -c "
h.set_opt_mode(True); h.connect_uri('$uri'); h.opt_abort()
h = nbd.NBD(); h.set_opt_mode(True); h.connect_uri('$uri'); h.set_export_name('no such thing')
try: h.opt_go(); raise SystemExit('it went')
except nbd.Error: pass
h.opt_abort()"

# --- nbdkit's nbd plugin, with filters between
bridge() {
  local name=$1 run=$2
  shift 2
  check "nbdkit: $name" nbdkit -U - "$@" --run "$run"
}
fio_nbd='fio --name=j --ioengine=nbd --uri="$uri" --size=16M --rw=randwrite --bs=4k --iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0'
bridge "a copy through it" "nbdcopy \"\$uri\" $work/bridge" nbd uri="$uri"
bridge "blocks of 512 at least" "$fio_nbd" --filter=blocksize nbd uri="$uri" minblock=512
bridge "every write forced" "$fio_nbd" --filter=fua nbd uri="$uri" fuamode=force
bridge "no zeroes" "qemu-io -f raw -c 'write -z 0 8M' -c 'read -P 0 0 8M' \"\$uri\"" --filter=nozero nbd uri="$uri" zeromode=notrim
bridge "log and stats" "nbdcopy $work/source \"\$uri\"" --filter=log --filter=stats nbd uri="$uri" logfile="$work/log" statsfile="$work/stats"
bridge "a cache in between" "$fio_nbd" --filter=cache nbd uri="$uri"
bridge "copy on write in between" "$fio_nbd" --filter=cow nbd uri="$uri"
bridge "checkwrite: what was copied is there" "nbdcopy $work/source \"\$uri\"" --filter=checkwrite nbd uri="$uri"
bridge "four shared connections" "$fio_nbd" --filter=multi-conn nbd uri="$uri" shared=true
bridge "requests of a policy, the rest refused" "$fio_nbd" --filter=blocksize-policy nbd uri="$uri" blocksize-minimum=512 \
  blocksize-error-policy=error
bridge "no extents" "nbdinfo --map \"\$uri\"" --filter=noextents nbd uri="$uri"
bridge "extents kept" "nbdcopy \"\$uri\" null:" --filter=cacheextents nbd uri="$uri"
bridge "one request at a time" "$fio_nbd" --filter=noparallel nbd uri="$uri" serialize=all-requests
bridge "a part of it, which ends in the middle of a block" "nbdcopy \"\$uri\" null:" --filter=offset nbd uri="$uri" \
  offset=12345 range=10000001
bridge "longer than it is" "nbdcopy \"\$uri\" null:" --filter=truncate nbd uri="$uri" truncate=$((size + 1000))
bridge "read ahead" "nbdcopy --synchronous --request-size=65536 \"\$uri\" null:" --filter=readahead nbd uri="$uri"
bridge "bytes swapped, and swapped back" "qemu-io -f raw -c 'write -P 7 1M 64K' -c 'read -P 7 1M 64K' \"\$uri\"" --filter=swab nbd \
  uri="$uri" swab-bits=16
bridge "delayed" "$fio_nbd --number_ios=200" --filter=delay nbd uri="$uri" rdelay=1ms wdelay=1ms
bridge "errors on the way in and out" "nbdcopy $work/source \"\$uri\" && nbdcopy \"\$uri\" $work/bridge2 && cmp $work/source $work/bridge2" \
  --filter=retry-request --filter=error nbd uri="$uri" error-pread-rate=1% error-pwrite-rate=1% error-zero-rate=1% \
  retry-request-delay=1 retry-request-retries=20
bridge "retry and injected errors" "nbdcopy \"\$uri\" null:" --filter=retry --filter=error nbd uri="$uri" error-pread-rate=0.3% retry-delay=1 retries=5

# --- a file system, where FUSE can be used
if [ -w /dev/fuse ] && command -v nbdfuse mke2fs e2fsck >/dev/null; then
  mkdir "$work/mount"
  check "nbdfuse: make, fill and check an ext4" sh -ec '
    nbdfuse "$1/mount" "$2" & fuse=$!
    for _ in $(seq 100); do [ -f "$1/mount/nbd" ] && break; sleep 0.1; done
    trap "fusermount3 -u $1/mount; wait $fuse" EXIT
    mkdir -p "$1/tree/a/b"; cp "$0" "$1/tree/a"; head -c 5000000 /dev/urandom > "$1/tree/a/b/noise"
    mke2fs -q -F -t ext4 -d "$1/tree" "$1/mount/nbd" 32M
    e2fsck -fn "$1/mount/nbd"
    debugfs -R "dump /a/b/noise $1/noise" "$1/mount/nbd"
    cmp "$1/noise" "$1/tree/a/b/noise"' "$here/nbd.sh" "$work" "$uri"
else
  skip "nbdfuse" "no FUSE here"
fi

finish

#!/usr/bin/python3
"""usage: nbd-extended.py URI

Extended headers, by libnbd 1.18 or newer and the tools beside it, on a writable, empty export of more than 16 GiB with the contexts
base:allocation and elide:residency. What is on it is lost.
"""
import errno, random, subprocess, sys
import nbd
from cases import attempt, finish

URI = sys.argv[1]
GIB = 1 << 30


def connect(contexts=("base:allocation", "elide:residency"), strict=None):
    h = nbd.NBD()
    for context in contexts:
        h.add_meta_context(context)
    if strict is not None:
        h.set_strict_mode(strict)
    h.connect_uri(URI)
    assert h.get_extended_headers_negotiated()
    return h


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, f"{error.errnum} instead of {number}"
        return
    raise AssertionError("it was accepted")


def status(h, length, offset, flags=0, only=None):
    found = {}
    def extents(name, at, entries, error):
        found.setdefault(name, []).extend(entries)
    if only is None:
        h.block_status_64(length, offset, extents, flags)
    else:
        h.block_status_filter(length, offset, only, extents, flags)
    return found


@attempt
def negotiated():
    """extended headers and the filter of block status are offered"""
    h = connect()
    assert h.can_block_status_payload() and h.get_structured_replies_negotiated() and h.can_df()


@attempt
def data():
    """writes and reads, small and large, whole and odd"""
    h = connect()
    noise = random.Random(3)
    for offset, length in ((0, 4096), (5, 3), (GIB - 7, 1 << 20), (5 * GIB + 1, 32 << 20), (h.get_size() - 1, 1)):
        bytes_ = noise.randbytes(length)
        h.pwrite(bytes_, offset, nbd.CMD_FLAG_FUA)
        assert h.pread(length, offset) == bytes_
    h.cache(4096, 0)
    h.cache(h.get_size(), 0)
    h.flush()


@attempt
def long_zeroes():
    """WRITE_ZEROES and TRIM of more than 32 bits"""
    h = connect()
    h.pwrite(b"x" * 8192, 6 * GIB)
    h.pwrite(b"y" * 8192, 100)
    h.zero(6 * GIB + 4096 - 100, 100)
    assert h.pread(8192, 100) == bytes(8192)
    assert h.pread(8192, 6 * GIB) == bytes(4096) + b"x" * 4096
    h.trim(h.get_size(), 0)
    assert h.pread(8192, 6 * GIB) == bytes(8192)


@attempt
def long_status():
    """block status tells runs of more than 32 bits"""
    h = connect()
    h.trim(h.get_size(), 0)
    h.pwrite(b"x" * 4096, 5 * GIB)
    h.flush()
    found = status(h, h.get_size(), 0)
    assert set(found) == {"base:allocation", "elide:residency"}
    runs = found["base:allocation"]
    assert runs[0] == (5 * GIB, 3), runs
    assert runs[1] == (4096, 0) and runs[2][0] > 1 << 32, runs
    one = status(h, 5 * GIB, 0, nbd.CMD_FLAG_REQ_ONE)["base:allocation"]
    assert one == [(5 * GIB, 3)], one


@attempt
def filters():
    """block status about one context"""
    h = connect()
    for names in (["base:allocation"], ["elide:residency"], ["elide:residency", "base:allocation"]):
        assert set(status(h, 1 << 20, 0, only=names)) == set(names)
    full = status(h, 1 << 20, 4096)
    assert status(h, 1 << 20, 4096, only=["base:allocation"])["base:allocation"] == full["base:allocation"]
    h = connect(contexts=("base:allocation",))
    assert set(status(h, 1 << 20, 0)) == {"base:allocation"}


@attempt
def errors():
    """errors come as chunks, and the connection lives"""
    # Without its own checks libnbd does not flag the payloads of writes either, as some clients do not.
    h = connect(strict=0)
    size = h.get_size()
    refused(errno.EINVAL, h.pread, 4096, size)
    refused(errno.ENOSPC, h.pwrite, b"x" * 4096, size)
    refused(errno.EINVAL, h.trim, 1 << 62, 4096)
    refused(errno.ENOSPC, h.zero, size, 4096)
    refused(errno.EINVAL, h.trim, 4096, 0, 1 << 9)
    refused(errno.EINVAL, h.block_status_64, size, 4096, lambda *a: None)
    h.pwrite(b"alive", 0)
    assert h.pread(5, 0) == b"alive"


@attempt
def options():
    """options in every order"""
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.set_request_extended_headers(False)
    h.set_request_structured_replies(False)
    h.connect_uri(URI)
    assert not h.get_extended_headers_negotiated()
    assert h.opt_extended_headers()
    assert not h.opt_extended_headers(), "twice"
    assert not h.opt_structured_reply(), "structured replies behind extended headers"
    h.add_meta_context("base:allocation")
    h.opt_go()
    assert h.can_meta_context("base:allocation") and h.pread(512, 0)
    h.shutdown()
    h = nbd.NBD()
    h.set_request_extended_headers(False)
    h.connect_uri(URI)
    assert not h.get_extended_headers_negotiated() and not h.can_block_status_payload()
    assert h.get_structured_replies_negotiated()


@attempt
def many():
    """300 requests in flight"""
    h = connect()
    buffers = [nbd.Buffer.from_bytearray(bytearray([i % 251] * 4096)) for i in range(300)]
    cookies = [h.aio_pwrite(b, i * 4096) for i, b in enumerate(buffers)]
    while cookies:
        cookies = [c for c in cookies if not h.aio_command_completed(c)]
        if cookies:
            h.poll(-1)
    for i in range(300):
        assert h.pread(4096, i * 4096) == bytes([i % 251] * 4096)


def tool(name, *command):
    def run():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-500:]
    run.__doc__ = name
    attempt(run)


h = connect()
h.trim(h.get_size(), 0)
with open("/tmp/source", "wb") as f:
    noise = random.Random(9)
    for at in (0, 3 << 20, 40 << 20):
        f.seek(at)
        f.write(noise.randbytes(777_777))
    f.truncate(64 << 20)
tool("nbdinfo", "nbdinfo", URI)
tool("nbdinfo --map", "nbdinfo", "--map", URI)
tool("nbdinfo --map --totals", "nbdinfo", "--map", "--totals", URI)
tool("nbdinfo --can block-status-payload", "nbdinfo", "--can", "block-status-payload", URI)
tool("nbdcopy in", "nbdcopy", "--flush", "/tmp/source", URI)
tool("nbdcopy: the same is there", "nbdsh", "-u", URI, "-c",
     "assert h.get_extended_headers_negotiated() and "
     "b''.join(h.pread(8 << 20, at << 20) for at in range(0, 64, 8)) == open('/tmp/source', 'rb').read()")
tool("qemu-img info", "qemu-img", "info", URI)
tool("qemu-img map", "qemu-img", "map", "--output=json", URI)
tool("qemu-io", "sh", "-c", "! qemu-io -f raw -c 'write -P 5 1M 2M' -c 'discard 4M 1G' -c 'write -z 4M 1G' -c flush "
     "-c 'read -P 5 1M 2M' \"$0\" 2>&1 | grep -iE 'fail|error'", URI)
finish()

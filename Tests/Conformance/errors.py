#!/usr/bin/python3
"""usage: errors.py URI

Requests that no good client sends, against a writable export of at least 64 MiB, by libnbd with its own checks turned off
and by a bare socket: each must get the error that the protocol names, or end that connection, and nothing else.
"""
import errno, socket, struct, sys
from urllib.parse import parse_qs, unquote, urlsplit
import nbd
from cases import attempt, finish

URI = sys.argv[1]


def connect(strict=0, structured=True):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    h.add_meta_context("base:allocation")
    h.set_strict_mode(strict)
    h.connect_uri(URI)
    return h


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, f"{error.errnum and errno.errorcode.get(error.errnum)} instead of {errno.errorcode[number]}"
        return
    raise AssertionError("it was accepted")


@attempt
def past_the_end():
    """libnbd: past the end of the export"""
    for structured in (True, False):
        h = connect(structured=structured)
        size = h.get_size()
        for offset, length in ((size, 1), (size - 1, 2), (size + 4096, 4096), (2**63 - 1, 1)):
            refused(errno.EINVAL, h.pread, length, offset)
            refused(errno.ENOSPC, h.pwrite, b"x" * length, offset)
            refused(errno.ENOSPC, h.zero, length, offset)
            refused(errno.EINVAL, h.trim, length, offset)
            refused(errno.EINVAL, h.cache, length, offset)
        h.pread(1, size - 1)
        h.shutdown()


@attempt
def length_zero():
    """libnbd: requests of length zero do not end the connection"""
    h = connect()
    for call in (lambda: h.pwrite(b"", 0), lambda: h.trim(0, 0), lambda: h.zero(0, 0), lambda: h.cache(0, 0)):
        call()
    refused(errno.EINVAL, h.block_status, 0, 0, lambda *_: None)
    h.flush()
    h.shutdown()


@attempt
def unknown_flags():
    """libnbd: flags that a command does not have"""
    h = connect()
    calls = [lambda f: h.pread(512, 0, f), lambda f: h.pwrite(b"y" * 512, 0, f), lambda f: h.trim(512, 0, f),
             lambda f: h.zero(512, 0, f), lambda f: h.cache(512, 0, f), lambda f: h.flush(f),
             lambda f: h.block_status(512, 0, lambda *_: None, f)]
    for call in calls:
        refused(errno.EINVAL, call, 1 << 10)
    refused(errno.EINVAL, calls[0], nbd.CMD_FLAG_NO_HOLE)
    refused(errno.EINVAL, calls[1], nbd.CMD_FLAG_DF)
    refused(errno.EINVAL, calls[2], nbd.CMD_FLAG_FAST_ZERO)
    refused(errno.EINVAL, calls[6], nbd.CMD_FLAG_DF)
    h.pread(512, 0, nbd.CMD_FLAG_FUA)
    h.shutdown()


@attempt
def not_negotiated():
    """libnbd: block status and DF without structured replies"""
    h = connect(structured=False)
    refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_DF)
    h.flush()
    h.shutdown()


@attempt
def too_long():
    """libnbd: a read of more than 32 MiB is refused, a write of 32 MiB is not"""
    h = connect()
    refused(errno.EINVAL, h.pread, (32 << 20) + 1, 0)
    h.pwrite(bytes(32 << 20), 0)
    h.shutdown()


# --- without a library

def bare():
    parts = urlsplit(URI)
    if parts.scheme.endswith("unix"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(parse_qs(parts.query)["socket"][0])
    else:
        s = socket.create_connection((parts.hostname, parts.port or 10809))
    s.settimeout(20)
    assert take(s, 18) == b"NBDMAGICIHAVEOPT\0\3"
    return s


def take(s, count):
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise EOFError(f"the server hung up after {len(data)} of {count} bytes")
        data += more
    return data


def hangs_up(s):
    try:
        while s.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass


def option(s, number, payload=b"", length=None):
    s.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(payload) if length is None else length) + payload)


def answer(s):
    magic, number, kind, length = struct.unpack(">QIII", take(s, 20))
    assert magic == 0x3E889045565A9
    return number, kind, take(s, length)


NAME = unquote(urlsplit(URI).path[1:]).encode()


def go(s):
    option(s, 7, struct.pack(">I", len(NAME)) + NAME + b"\0\0")
    while True:
        _, kind, _ = answer(s)
        assert kind < 1 << 31, hex(kind)
        if kind == 1:
            return s


def entered():
    s = bare()
    s.sendall(struct.pack(">I", 3))
    return go(s)


def request(s, command, offset=0, length=0, flags=0, cookie=7, payload=b"", magic=0x25609513):
    s.sendall(struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length) + payload)


def simple(s):
    magic, error, cookie = struct.unpack(">IIQ", take(s, 16))
    assert magic == 0x67446698
    return error, cookie


@attempt
def client_flags():
    """bare: unknown client flags end the connection"""
    s = bare()
    s.sendall(struct.pack(">I", 0x10003))
    hangs_up(s)


@attempt
def odd_options():
    """bare: unknown, long and malformed options leave the stream usable"""
    s = bare()
    s.sendall(struct.pack(">I", 3))
    option(s, 0xABCD, b"whatever")
    assert answer(s)[:2] == (0xABCD, 0x80000001)
    option(s, 5)
    assert answer(s)[1] in (0x80000001, 0x80000002)
    option(s, 12)
    assert answer(s)[1] == 0x80000001
    option(s, 99, bytes(1 << 20))
    assert answer(s)[1] in (0x80000009, 0x80000001)
    option(s, 7, b"\xff\xff\xff\xff\0\0")
    assert answer(s)[1] in (0x80000003, 0x80000009)
    option(s, 7, struct.pack(">I", len(NAME)) + NAME + b"\0\5")
    assert answer(s)[1] == 0x80000003
    option(s, 10, struct.pack(">I", len(NAME)) + NAME + struct.pack(">I", 0))
    assert answer(s)[1] == 0x80000003, "SET_META_CONTEXT before STRUCTURED_REPLY"
    go(s)
    request(s, 3)
    assert simple(s) == (0, 7)


@attempt
def wrong_option_magic():
    """bare: something else than an option ends the connection"""
    s = bare()
    s.sendall(struct.pack(">I", 3) + b"IHAVENOT" + bytes(8))
    hangs_up(s)


@attempt
def wrong_magics():
    """bare: reserved and wrong request magics end the connection"""
    for magic in (0x12560953, 0x96744668, 0x25609514, 0x21E41C71, 0):
        s = entered()
        request(s, 0, length=1, magic=magic)
        hangs_up(s)


@attempt
def huge_write():
    """bare: a write of 4 GiB ends the connection before its payload"""
    s = entered()
    request(s, 1, length=0xFFFFFFFF, payload=bytes(4096))
    hangs_up(s)


@attempt
def refused_write_is_drained():
    """bare: the payload of a refused write is not taken for requests"""
    s = entered()
    trap = struct.pack(">IHHQQI", 0x25609513, 0, 3, 666, 0, 0) * 1000
    request(s, 1, offset=1 << 62, length=len(trap), payload=trap)
    assert simple(s) == (errno.ENOSPC, 7)
    request(s, 1, flags=1 << 9, length=len(trap), payload=trap, cookie=8)
    assert simple(s) == (errno.EINVAL, 8)
    request(s, 3, cookie=9)
    assert simple(s) == (0, 9)


@attempt
def overflow():
    """bare: offset and length that wrap around"""
    s = entered()
    for command, error in ((0, errno.EINVAL), (4, errno.EINVAL), (6, errno.ENOSPC), (5, errno.EINVAL)):
        request(s, command, offset=2**64 - 1, length=2)
        assert simple(s) == (error, 7)
        request(s, command, offset=2**64 - 4096, length=4096)
        assert simple(s) == (error, 7)
    request(s, 3, offset=1)
    assert simple(s)[0] in (0, errno.EINVAL)


@attempt
def unknown_command():
    """bare: an unknown command gets EINVAL"""
    s = entered()
    for command in (8, 100, 65535):
        request(s, command, length=4096)
        assert simple(s) == (errno.EINVAL, 7)


@attempt
def same_cookie():
    """bare: cookies may repeat"""
    s = entered()
    for _ in range(50):
        request(s, 3, cookie=1)
    for _ in range(50):
        assert simple(s) == (0, 1)


@attempt
def many_halves():
    """bare: clients that stop in the middle leave the server well"""
    whole = struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 4096) + bytes(4096)
    for cut in range(1, len(whole), 331):
        s = entered()
        s.sendall(whole[:cut])
        s.close()
    s = entered()
    request(s, 3)
    assert simple(s) == (0, 7)


@attempt
def disconnect():
    """bare: DISC after a request: the reply comes, then the end"""
    s = entered()
    request(s, 3)
    request(s, 2)
    assert simple(s) == (0, 7)
    hangs_up(s)


@attempt
def export_name():
    """bare: EXPORT_NAME, with and without the zeroes"""
    for flags, length in ((1, 134), (3, 10)):
        s = bare()
        s.sendall(struct.pack(">I", flags))
        option(s, 1, NAME)
        size, bits = struct.unpack(">QH", take(s, length)[:10])
        assert size >= 64 << 20 and bits & 1
        request(s, 3)
        assert simple(s) == (0, 7)
    s = bare()
    s.sendall(struct.pack(">I", 3))
    option(s, 1, b"no such export")
    hangs_up(s)


finish()

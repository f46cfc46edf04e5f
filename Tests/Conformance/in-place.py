#!/usr/bin/python3
"""in-place.py ELIDE: clients that take the reply to a large read late find what was there when they asked.

Large reads go into the socket as pages of the files they lie in. The client here leaves them there while the guest overwrites all of
the volume, so that the files are of no use any more and others of their kind become the next write-ahead files; it even outlives the
server. Files are told apart by their inodes.
"""
import fcntl, os, socket, struct, termios
from cases import finish
from harness import case, eventually
from writer import content

MIB, SIZE, AHEAD = 1 << 20, 160 << 20, 6
IHAVEOPT, OPT_EXPORT_NAME, REQUEST, REPLY = 0x49484156454F5054, 1, 0x25609513, 0x67446698


class Slow:
    """A client that asks, and takes nothing until it is told to."""

    def __init__(self, path, export):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.take(18)
        name = export.encode()
        # Fixed newstyle, no zeroes; no structured replies.
        self.socket.sendall(struct.pack(">I", 3) + struct.pack(">QII", IHAVEOPT, OPT_EXPORT_NAME, len(name)) + name)
        self.take(10)

    def ask(self, cookie, offset, length):
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, 0, cookie, offset, length))

    def waiting(self):
        """Bytes in the socket."""
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.FIONREAD, b"\0" * 4))[0]

    def take(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                break
            data += more
        return data


def pattern(generation):
    return [b"".join(content(generation, lba) for lba in range(m * 256, m * 256 + 256)) for m in range(SIZE // MIB)]


def overwrite(handle, data):
    for m, bytes in enumerate(data):
        handle.pwrite(bytes, m * MIB)
    handle.flush()


def inodes(directory):
    """Of its write-ahead files, as far as they stay long enough to be looked at."""
    found = set()
    for name in os.listdir(directory) if directory.exists() else []:
        try:
            found.add((directory / name).stat().st_ino)
        except FileNotFoundError:
            pass
    return found


class Files:
    """Which files the volume has, and which of those that were in the cache became write-ahead files."""

    def __init__(self, host, volume):
        self.cache, self.wal = host.root / "host/cache" / volume, host.root / "host/volumes" / volume / "wal"
        self.cached, self.reused = set(), set()

    def look(self):
        self.cached |= inodes(self.cache)
        self.reused |= self.cached & inodes(self.wal)
        return self.reused


def settled(host):
    status = host.run("status", "--json").json["volumes"][0]["status"]
    return status["unsealedFiles"] <= 2 and status["unsentBytes"] == 0


def overwrite_until_reused(handle, files, count):
    """With what was never there before, which no older file holds."""
    before = len(files.look())
    for _ in range(40):
        for m in range(SIZE // MIB):
            handle.pwrite(os.urandom(MIB), m * MIB)
            files.look()
        handle.flush()
        if len(files.look()) >= before + count:
            return
    raise AssertionError("no file was used again")


@case
def late(host):
    """a reply that is taken after its files were overwritten, and one that outlives the server, hold what was asked for"""
    host.run("volume", "create", "v", "--size", SIZE)
    volume = host.volume("v")
    contents = pattern(1)
    server = host.serve("v")
    files = Files(host, volume)
    guest = server.connect("v")
    overwrite(guest, contents)
    eventually(lambda: settled(host), "nothing settles")
    slow = Slow(server.socket, "v")
    for m in range(AHEAD):
        slow.ask(m, m * MIB, MIB)
    eventually(lambda: slow.waiting() > 4 * MIB, "the server sends nothing")
    overwrite_until_reused(guest, files, 3)
    for m in range(AHEAD):
        assert slow.take(16) == struct.pack(">IIQ", REPLY, 0, m)
        assert slow.take(MIB) == contents[m], f"MiB {m} is not what it was"

    # Again; and now the server is killed, and the next one knows nothing of it.
    overwrite(guest, contents)
    eventually(lambda: settled(host), "nothing settles")
    for m in range(AHEAD):
        slow.ask(m, (80 + m) * MIB, MIB)
    eventually(lambda: slow.waiting() > 4 * MIB, "the server sends nothing")
    server.kill()
    server = host.serve("v")
    guest = server.connect("v")
    overwrite_until_reused(guest, files, 3)
    expected = b"".join(struct.pack(">IIQ", REPLY, 0, m) + contents[80 + m] for m in range(AHEAD))
    left = slow.take(len(expected))
    assert len(left) > 4 * MIB and left == expected[: len(left)], f"{len(left)} bytes were left, and are not what they were"
    assert server.stop() == 0


finish()

#!/usr/bin/python3
"""usage: full-disk.py PATH/elide          (as root: it mounts small file systems)

A data directory on a small tmpfs that gets full in each phase of a volume's life, a real server, and a guest. The guest's error
is ENOSPC, or there is none; reads and flushes go on; nothing acknowledged is lost; when space returns all goes on by itself.
"""
import errno, hashlib, os, subprocess, sys, time
import nbd
from cases import finish
from harness import case, eventually

MiB = 1 << 20


def content(lba, generation):
    seed = f"{lba}:{generation}".encode()
    return (seed.ljust(64, b".") + hashlib.sha256(seed).digest() * 126)[:4096]


class SmallDisk:
    """A tmpfs of so many MiB, mounted where a host keeps its data. `fill` leaves nothing; `free` gives that back."""

    def __init__(self, host, mib, data="host"):
        self.path = host.root / data
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", self.path], check=True)
        self.ballast = 0

    def left(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        while (room := self.left() - leave) > 0:
            self.ballast += 1
            with open(self.path / f"ballast{self.ballast}", "wb") as f:
                try:
                    os.posix_fallocate(f.fileno(), 0, room)
                except OSError as e:
                    # The server takes and gives meanwhile.
                    assert e.errno == errno.ENOSPC

    def free(self):
        for n in range(1, self.ballast + 1):
            (self.path / f"ballast{n}").unlink(missing_ok=True)
        self.ballast = 0

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], check=True)


def on_small_disk(mib):
    """A case with a small disk, that is unmounted whatever happens."""

    def decorate(function):
        def run(host):
            disk = SmallDisk(host, mib)
            try:
                function(host, disk)
            finally:
                for server in host.servers:
                    server.kill()
                disk.unmount()

        run.__doc__ = function.__doc__
        return case(run)

    return decorate


class Guest:
    def __init__(self, server, export):
        self.h = server.connect(export)
        self.acked = {}

    def write(self, lba, generation, blocks=256):
        """False at ENOSPC: then none, part or all of it may be there."""
        data = b"".join(content(lba + i, generation) for i in range(blocks))
        try:
            self.h.pwrite(data, lba * 4096)
        except nbd.Error as e:
            assert e.errnum == errno.ENOSPC, f"{e.string}"
            for i in range(blocks):
                self.acked.setdefault(lba + i, {None}).add(generation)
            return False
        for i in range(blocks):
            self.acked[lba + i] = {generation}
        return True

    def check(self, h=None):
        h = h or self.h
        for lba in sorted(self.acked):
            found = bytes(h.pread(4096, lba * 4096))
            allowed = [bytes(4096) if g is None else content(lba, g) for g in self.acked[lba]]
            assert found in allowed, f"block {lba} is not what was written"


def status(host, name="v"):
    return host.run("volume", "status", name, "--json").json


def elsewhere(host, guest, volume):
    """Another host, with room, sees what the guest wrote."""
    server = host.serve(volume, data="other")
    guest.check(server.connect(volume))
    assert server.stop() == 0


@on_small_disk(200)
def no_room_for_a_file(host, disk):
    """writes get ENOSPC when no file can be made, reads and flushes go on, and so does writing when space returns"""
    host.run("volume", "create", "v", "--size", "1G")
    server = host.serve("v")
    guest = Guest(server, "v")
    assert guest.write(0, 1)
    disk.fill()
    lba, begin = 256, time.monotonic()
    while guest.write(lba, 1):
        lba += 256
        disk.fill()
        assert lba < 100_000, "no end"
    waited = time.monotonic() - begin
    assert waited > 5, f"ENOSPC after {waited} s"
    assert status(host)["writing"] == "full", status(host)
    guest.h.flush()
    guest.check()
    disk.free()
    eventually(lambda: guest.write(lba, 2), "writes do not go on")
    for n in range(40):
        assert guest.write(lba + 256 * n, 3)
    guest.h.flush()
    guest.check()
    assert status(host)["writing"] == "free"
    volume = host.volume("v")
    assert server.stop() == 0
    elsewhere(host, guest, volume)


@on_small_disk(200)
def published_on_a_full_disk(host, disk):
    """seals, uploads, snapshots, checkpoints and pages are noted in the journal's reserve when the disk is full"""
    host.run("volume", "create", "v", "--size", "1G")
    server = host.serve("v")
    guest = Guest(server, "v")
    for n in range(8):
        assert guest.write(256 * n, 1)
    disk.fill()
    assert (disk.path / "reserve").exists()
    host.run("snapshot", "create", "v", "--label", "full")
    s = status(host)
    assert s["snapshots"][0]["published"] and s["unsentBytes"] == 0 and s["state"] == "serving", s
    guest.check()
    volume = host.volume("v")
    server.kill()
    elsewhere(host, guest, volume)


@on_small_disk(200)
def nothing_left_at_all(host, disk):
    """with the reserve gone too a snapshot waits or says try later, nothing halts, and all is published when space returns"""
    host.run("volume", "create", "v", "--size", "1G")
    server = host.serve("v")
    guest = Guest(server, "v")
    for n in range(8):
        assert guest.write(256 * n, 1)
    guest.h.flush()
    (disk.path / "reserve").unlink()
    disk.fill()
    asked = subprocess.Popen([sys.argv[1], "snapshot", "create", "v", "--label", "s"], env=host.environment(),
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert status(host)["state"] == "serving", status(host)
        guest.h.flush()
        disk.fill()
        time.sleep(0.2)
    guest.check()
    disk.free()
    code = asked.wait()
    if code != 0:
        assert code == 75, f"code {code}: {asked.stderr.read()}"
        host.run("snapshot", "create", "v", "--label", "s")
    for n in range(8):
        assert guest.write(256 * n, 2)
    volume = host.volume("v")
    assert server.stop() == 0
    elsewhere(host, guest, volume)


@on_small_disk(140)
def reads_without_a_cache(host, disk):
    """what only the store has is read though the disk has no room for it"""
    host.run("volume", "create", "v", "--size", "256M", data="other")
    server = host.serve("v", data="other")
    guest = Guest(server, "v")
    for n in range(32):
        assert guest.write(256 * n, 1)
    volume = next(v["volume"] for v in host.run("volume", "list", "--json", data="other").json["volumes"])
    assert server.stop() == 0
    server = host.serve(volume)
    disk.fill()
    guest.check(server.connect(volume))
    assert server.stop() == 0


@on_small_disk(200)
def opened_on_a_full_disk(host, disk):
    """after a kill a full disk makes opening a matter of later, or reads go on; with space again all is there"""
    host.run("volume", "create", "v", "--size", "1G")
    server = host.serve("v")
    guest = Guest(server, "v")
    for n in range(40):
        assert guest.write(256 * n, 1)
    server.kill()
    for reserve in (True, False):
        if not reserve:
            (disk.path / "reserve").unlink(missing_ok=True)
        disk.fill()
        try:
            server = host.serve("v")
            guest.check(server.connect("v"))
            server.kill()
        except AssertionError as refused:
            assert "full" in str(refused) or "No space" in str(refused), refused
        disk.free()
    server = host.serve("v")
    guest.h = server.connect("v")
    guest.check()
    for n in range(40):
        # What a slow store has not taken yet keeps its place here.
        eventually(lambda n=n: guest.write(256 * n, 2), "space after space returned")
    volume = host.volume("v")
    assert server.stop() == 0
    elsewhere(host, guest, volume)


@on_small_disk(200)
def made_on_a_full_disk(host, disk):
    """create and import on a full disk leave nothing behind, and work when there is room"""
    image = host.root / "image"
    with open(image, "wb") as f:
        for lba in range(64 * 256):
            f.write(content(lba, 1))
    host.run("volume", "create", "first", "--size", "1M")
    disk.fill()
    host.run("volume", "create", "v", "--size", "1G", code=75)
    done = host.run("volume", "import", "i", f"raw:{image}", code=None)
    assert done.code in (0, 75), f"{done.code}: {done.err}"
    names = [v.get("name") for v in host.run("volume", "list", "--json").json["volumes"]]
    assert names == (["first", "i"] if done.code == 0 else ["first"]), names
    disk.free()
    host.run("volume", "create", "v", "--size", "1G")
    if done.code != 0:
        host.run("volume", "import", "i", f"raw:{image}")
    server = host.serve("i")
    guest = Guest(server, "i")
    guest.acked = {lba: {1} for lba in range(64 * 256)}
    guest.check()
    assert server.stop() == 0


finish()

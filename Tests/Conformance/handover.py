"""Names that go from host to host under load. usage: handover.py PATH/elide [hand-overs]

Three coordinators with data directories of their own on one store.
"""
import os, random, sys, threading
import nbd
import cases
from coordinators import case, create, start
from harness import eventually

COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 6
BLOCKS = 512


def stamp(block, version):
    return (f"{block}:{version};".encode() * 1400)[:4096] if version else bytes(4096)


def ended(process):
    """Gone, or as good as: nobody need wait for it."""
    try:
        return open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Writer(threading.Thread):
    """Writes stamped blocks until the connection breaks, and knows what was acknowledged and what was on its way."""

    def __init__(self, handle, acknowledged, seed):
        super().__init__(daemon=True)
        self.handle, self.acknowledged, self.random = handle, acknowledged, random.Random(seed)
        self.pending, self.count = None, 0
        self.start()

    def run(self):
        while True:
            block = self.random.randrange(BLOCKS)
            version = self.acknowledged.get(block, 0) + 1
            self.pending = (block, version)
            try:
                self.handle.pwrite(stamp(block, version), block * 4096)
                if self.count % 16 == 0:
                    self.handle.flush()
            except nbd.Error:
                return
            self.acknowledged[block], self.pending = version, None
            self.count += 1


def check(handle, acknowledged, pending, where):
    for block in range(BLOCKS):
        data = handle.pread(4096, block * 4096)
        known = acknowledged.get(block, 0)
        if data == stamp(block, known):
            continue
        assert pending and pending[0] == block and data == stamp(*pending), \
            f"{where}: block {block} is {data[:16]}, and version {known} was acknowledged"
        acknowledged[block] = pending[1]


@case("a", "b", "c", deadline=120 + 20 * COUNT)
def _(*hosts):
    """a name is handed from host to host under a writer, and loses nothing that was acknowledged"""
    create(hosts[0], size=BLOCKS * 4096)
    start(hosts[0])
    acknowledged, at, written = {}, 0, 0
    for k in range(COUNT):
        here, there = hosts[at], hosts[(at + 1 + k % 2) % 3]
        writer = Writer(here.connect("vm"), acknowledged, k)
        eventually(lambda: writer.count > 40 or not writer.is_alive(), "it writes")
        assert here.do("stop", "vm", force=True, release=True)["phase"] == "released"
        writer.join()
        written += writer.count
        report = there.do("start", "vm", claim=True)
        assert report["phase"] == "live", report
        handle = there.connect("vm")
        check(handle, acknowledged, writer.pending, f"hand-over {k} from {here.data} to {there.data}")
        handle.shutdown()
        at = hosts.index(there)
    kinds = [e["kind"] for e in hosts[at].events("vm")]
    assert kinds.count("released") == COUNT and kinds.count("claimed") + kinds.count("reclaimed") == COUNT, kinds
    print(f"# {COUNT} hand-overs, {written} writes", flush=True)


@case("a", "b", deadline=240)
def _(a, b):
    """a host that is dead is displaced by force; what was published goes on, and it serves nothing when it is back"""
    create(a, size=BLOCKS * 4096)
    start(a)
    h = a.connect("vm")
    for block in range(32):
        h.pwrite(stamp(block, 1), block * 4096)
    h.flush()
    volume = a.served("vm")["volume"]
    process = a.pid("vm")
    a.volume(volume, "POST", "/v1/cut")
    state = b.ask("GET", "/v1/names/vm?fresh=1")[1]
    # Its guests write on, and nobody publishes that.
    h.pwrite(stamp(40, 1), 40 * 4096)
    h.flush()
    os.kill(process, 19)
    a.kill()
    expect = f"{state['owner']}@{state['epoch']}"
    def force(expect, dry=False):
        return b.ask("POST", "/v1/commands", {
            "command": {"forceRelease": {"name": "vm", "expect": expect, "isSelf": False, "acceptsLoss": False}},
            "context": {"reason": "a is dead", "dryRun": dry}})
    status, refused = force(f"{state['owner']}@9999")
    assert status >= 400 and b.ask("GET", "/v1/names/vm?fresh=1")[1]["seq"] == state["seq"], refused
    status, planned = force(expect, dry=True)
    assert status == 200 and planned["outcome"] == "planned", planned
    status, report = force(expect)
    assert status == 200, report
    assert b.do("start", "vm", claim=False)["phase"] == "live"
    g = b.connect("vm")
    for block in range(32):
        assert g.pread(4096, block * 4096) == stamp(block, 1), block
    g.pwrite(stamp(0, 2), 0)
    g.flush()
    # The dead come back: no request is answered any more, and nothing is served.
    os.kill(process, 18)
    a.start()
    eventually(lambda: a.pid("vm") is None and ended(process), "the displaced one has ended")
    try:
        h.pread(4096, 0)
        raise AssertionError("a displaced host answered")
    except nbd.Error:
        pass
    assert g.pread(4096, 0) == stamp(0, 2)
    # What only the displaced host had is offered under a name of its own.
    assert g.pread(4096, 40 * 4096) == bytes(4096)
    eventually(lambda: not a.ask("GET", "/v1/names/vm?fresh=1")[1]["displaced"], "rescued")
    rescued = next(n["name"] for n in a.ask("GET", "/v1/names")[1]["names"] if n["name"].startswith("vm-"))
    start(a, rescued)
    r = a.connect(rescued)
    assert r.pread(4096, 40 * 4096) == stamp(40, 1) and r.pread(4096, 4096) == stamp(1, 1)


cases.finish()

#!/usr/bin/python3
"""requests.py ELIDE, run by scripts/moto.sh or scripts/rgw.sh: what handing a name over costs at the store.

Two coordinators, each behind a proxy of its own that writes down every request. An idle volume goes from one to the other and on to
the next, with terminal page and genesis page; opening it for service is not counted. What a coordinator asks now and then anyway may
fall into a hand-over, so the median of several counts. The target is ten requests on each side; the limits here are a little above
what it takes today (docs/performance.md), so that it does not become more.
"""
import os, re, statistics, subprocess, sys
from pathlib import Path
import cases
from coordinators import Coordinator, create, on_s3, start
from harness import Host, eventually

HAND_OVERS, LIMITS = 9, {"release": 22, "claim": 32}
PROXY = Path(__file__).parent / "../Bench/store_proxy.py"


class Proxied:
    """A coordinator whose requests are written down."""

    def __init__(self, host, data, store):
        upstream = re.search(r"endpoint=http://([^&]*)", store)[1]
        self.log, port = host.root / f"{data}.requests", host.root / f"{data}.port"
        self.proxy = subprocess.Popen([sys.executable, PROXY, upstream, "--port-file", port, "--log", self.log],
                                      stdout=subprocess.DEVNULL)
        eventually(lambda: port.exists() and port.read_text().endswith("\n"), "the proxy answers")
        host.own[data] = {"ELIDE_STORE": store.replace(upstream, f"127.0.0.1:{port.read_text().strip()}")}
        self.coordinator = Coordinator(host, data)
        self.seen = 0

    def requests(self):
        """Since the last call."""
        lines = self.log.read_text().splitlines()
        new, self.seen = lines[self.seen:], len(lines)
        return new

    def end(self):
        self.coordinator.end()
        self.proxy.kill()
        self.proxy.wait()


def on_the_log(requests):
    return [r for r in requests if re.match(r"PUT .*/events/vm/\d+\.toml", r)]


def is_shipped(coordinator):
    status = coordinator.served("vm")["status"]
    return status["unsentBytes"] == 0 and status["unsealedFiles"] <= 2


def hand_overs():
    """a hand-over of an idle volume is one PUT on the name's log for each transition, and no more requests than it was"""
    host = Host()
    store = on_s3()
    sides = []
    try:
        sides += [Proxied(host, "a", store)]
        sides += [Proxied(host, "b", store)]
        create(sides[0].coordinator, size=16 << 20)
        start(sides[0].coordinator)
        counts = {"release": [], "claim": []}
        for k in range(HAND_OVERS):
            here, there = sides[k % 2], sides[(k + 1) % 2]
            handle = here.coordinator.connect("vm")
            handle.pwrite(os.urandom(1 << 20), (k % 16) << 20)
            handle.flush()
            handle.shutdown()
            here.coordinator.idle("vm")
            # A cut of its own, so that nothing is left to be shipped: the volume is idle.
            here.coordinator.do("snapshot", "vm", label=f"s{k}")
            eventually(lambda: is_shipped(here.coordinator), "it is shipped")
            known = len(here.coordinator.events("vm"))
            here.requests()
            assert here.coordinator.do("stop", "vm", force=False, release=True)["phase"] == "released"
            asked = here.requests()
            entries = len(here.coordinator.events("vm")) - known
            assert len(on_the_log(asked)) == entries, f"{entries} entries: {asked}"
            counts["release"].append(len(asked))
            there.requests()
            assert there.coordinator.do("claim", "vm", serve=False)["phase"] == "stopped"
            claimed = there.requests()
            after = len(there.coordinator.events("vm")) - known - entries
            assert len(on_the_log(claimed)) == after, f"{after} entries: {claimed}"
            counts["claim"].append(len(claimed))
            if k in (0, HAND_OVERS - 1):
                print("  # release:", *asked, "claim:", *claimed, sep="\n  #   ", flush=True)
            start(there.coordinator)
        print("  #", counts, flush=True)
        for side, seen in counts.items():
            assert statistics.median(seen) <= LIMITS[side], f"{side}: {seen}"
    finally:
        for side in sides:
            side.end()
        host.close()


if "ELIDE_TEST_S3" not in os.environ:
    sys.exit("run me by scripts/moto.sh or scripts/rgw.sh")
cases.attempt(hand_overs, deadline=300)
cases.finish()

#!/usr/bin/env python3
"""Elide beside its peers, on this machine, in the same run.

    bench.py [--elide PATH] [--seconds 3] [--rounds 3] [--dir DIR] [--rows name,…]

Each row is one kind of work for Elide and one peer, in interleaved rounds, so that noise meets both alike. Printed are minimum, median
and maximum of each, the ratio of the medians, and the target. Only ratios mean anything: the machine is shared.

Needs fio with the nbd engine, nbdkit, qemu-nbd and nbdinfo. Files lie in DIR (default: a temporary directory on the disk that holds
/var/tmp); the rows "memory" use /dev/shm.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time

SIZE = 1 << 30

# name: (fio options, metric, where Elide's data lies, peer, target)
ROWS = {
    "4 KiB random read, depth 32, warm":        (dict(rw="randread", bs="4k", iodepth=32), "iops", "disk", "nbdkit-memory", 1.0),
    "4 KiB random read, depth 1, warm":         (dict(rw="randread", bs="4k", iodepth=1), "iops", "disk", "nbdkit-memory", 0.8),
    "sequential read 256 KiB, depth 16, warm":  (dict(rw="read", bs="256k", iodepth=16), "MiB/s", "disk", "nbdkit-memory", None),
    "4 KiB random write, depth 32, flush/32":   (dict(rw="randwrite", bs="4k", iodepth=32, fsync=32), "iops", "disk", "qemu-nbd", 1.5),
    "4 KiB random write, depth 32, no flush":   (dict(rw="randwrite", bs="4k", iodepth=32), "iops", "memory", "nbdkit-memory", None),
    "mixed 70/30, 4 KiB, depth 32":             (dict(rw="randrw", bs="4k", iodepth=32, rwmixread=70), "iops", "memory", "nbdkit-memory", None),
    "sequential write 256 KiB, depth 16":       (dict(rw="write", bs="256k", iodepth=16), "MiB/s", "disk", "qemu-nbd", None),
    "FLUSH after one 4 KiB write, median":      (dict(rw="randwrite", bs="4k", iodepth=1, fsync=1), "flush us", "disk", "qemu-nbd", None),
}

class Server:
    """A server in the foreground, on a socket and a directory of its own; filled before it is measured."""

    def __init__(self, name, command, uri, directory):
        self.name, self.uri, self.directory = name, uri, directory
        self.log = open(os.path.join(directory, "log"), "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 60
        while subprocess.run(["nbdinfo", "--size", uri], capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not come up; see {self.log.name}: {open(self.log.name).read()[-500:]}")
            time.sleep(0.05)

    def fill(self):
        # Random contents: nothing is deduplicated or found to be zero.
        fio(self.uri, dict(rw="write", bs="1m", iodepth=8, refill_buffers=1), seconds=None)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()

def fio(uri, options, seconds):
    command = ["fio", "--name=row", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE}", "--output-format=json", "--randrepeat=0",
               "--norandommap", "--random_generator=tausworthe64"]
    if seconds:
        command += ["--time_based", f"--runtime={seconds}", "--ramp_time=0.5"]
    command += [f"--{k}={v}" for k, v in options.items()]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if out.returncode != 0:
        sys.exit(f"fio failed on {uri}: {out.stderr[-800:]}{out.stdout[-400:]}")
    return json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]

def metric(job, kind):
    if kind == "iops":
        return job["read"]["iops"] + job["write"]["iops"]
    if kind == "MiB/s":
        return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / (1 << 20)
    return job["sync"]["lat_ns"]["percentile"]["50.000000"] / 1000

def start(kind, place, elide, base):
    root = "/dev/shm" if place == "memory" else base
    directory = tempfile.mkdtemp(prefix="elide-bench-", dir=root)
    socket = os.path.join(directory, "s")
    if kind == "elide":
        env = ["env", f"ELIDE_DATA_DIR={directory}/data", f"ELIDE_STORE=file://{directory}/store"]
        subprocess.run(env + [elide, "volume", "create", "v", "--size", str(SIZE)], check=True, capture_output=True)
        return Server(kind, env + [elide, "serve", "v", "--nbd", f"unix:{socket}"], f"nbd+unix:///v?socket={socket}", directory)
    if kind == "nbdkit-memory":
        command = ["nbdkit", "-f", "-U", socket, "memory", f"size={SIZE}"]
    else:
        disk = os.path.join(directory, "disk")
        # Filled, not sparse: the peer overwrites allocated blocks, as a disk in use does.
        subprocess.run(["dd", "if=/dev/urandom", f"of={disk}", "bs=1M", f"count={SIZE >> 20}", "conv=fsync"], check=True, capture_output=True)
        command = ["qemu-nbd", "-f", "raw", "-t", "-e", "8", "--cache=writeback", "-k", socket, disk]
    return Server(kind, command, f"nbd+unix:///?socket={socket}", directory)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elide", default=".build/release/elide")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--rows", help="parts of row names, separated by commas")
    parser.add_argument("--json", help="write the figures to this file too")
    a = parser.parse_args()
    rows = {n: r for n, r in ROWS.items() if not a.rows or any(p in n for p in a.rows.split(","))}
    results, servers = {}, {}
    try:
        for name, (options, kind, place, peer, target) in rows.items():
            figures = {"elide": [], peer: []}
            for server in ("elide", peer):
                if (server, place) not in servers:
                    servers[server, place] = start(server, place, a.elide, a.dir)
                    if server != "qemu-nbd":
                        servers[server, place].fill()
            for _ in range(a.rounds):
                for server in figures:
                    figures[server].append(metric(fio(servers[server, place].uri, options, a.seconds), kind))
            mine, theirs = (statistics.median(figures[s]) for s in ("elide", peer))
            ratio = theirs / mine if kind == "flush us" else mine / theirs
            results[name] = dict(figures=figures, ratio=ratio, target=target, unit=kind, peer=peer)
            show = lambda v: "/".join(f"{x:,.0f}" for x in (min(v), statistics.median(v), max(v)))
            verdict = "" if target is None else ("ok" if ratio >= target else "BELOW")
            print(f"{name:42} {kind:8} elide {show(figures['elide']):>24}   {peer} {show(figures[peer]):>24}   "
                  f"{ratio:5.2f}x  target {target or '-'} {verdict}", flush=True)
    finally:
        for server in servers.values():
            server.stop()
            shutil.rmtree(server.directory, ignore_errors=True)
    if a.json:
        json.dump(results, open(a.json, "w"), indent=1)

if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Elide beside its peers, on this machine, in the same run.

    bench.py [--elide PATH] [--seconds 3] [--rounds 3] [--dir DIR] [--rows part,…] [--plain] [--json FILE]

Each row is one kind of work for Elide and one peer, in interleaved rounds, so that noise meets both alike. Printed are minimum, median
and maximum of each, the ratio of the medians, and the target. Only ratios mean anything: the machine is shared. On a machine where
others compile, even they mean little; what the server's threads used of the processors for each request ("cpu", microseconds) is then
the steadier figure. It counts sealing, encoding and uploading too, as far as they ran meanwhile.

Rows "disk" lie on a file system of their own, on a loop device over a file in DIR that was written once: on a thin disk the first write
of a place costs many times the second, and a peer that overwrites its file would be compared with the disk's allocator. The device also
counts what is written. Without root, or with --plain, they lie in DIR itself, and what is written is not counted. Rows "memory" lie in
/dev/shm.

Needs fio with the nbd engine, nbdkit, qemu-nbd and nbdinfo.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time

SIZE = 1 << 30
READ, WRITE, SEQ = dict(rw="randread", bs="4k"), dict(rw="randwrite", bs="4k"), dict(bs="256k", iodepth=16)

# name: (fio options, metric, server of ours, peer, target)
ROWS = {
    "4 KiB random read, depth 32, warm": (READ | dict(iodepth=32), "iops", "elide", "nbdkit-memory", 1.4),
    "4 KiB random read, depth 1, warm": (READ | dict(iodepth=1), "iops", "elide", "nbdkit-memory", 0.95),
    "4 KiB random read, depth 1, spin": (READ | dict(iodepth=1), "iops", "elide-spin", "nbdkit-memory", 1.5),
    "4 KiB random read, depth 32, peer in tmpfs": (READ | dict(iodepth=32), "iops", "elide", "qemu-nbd-memory", 3.0),
    "sequential read 256 KiB, depth 16, warm": (SEQ | dict(rw="read"), "MiB/s", "elide", "nbdkit-memory", 1.2),
    "4 KiB random write, depth 32, flush/32": (WRITE | dict(iodepth=32, fsync=32), "iops", "elide", "qemu-nbd", 2.0),
    "4 KiB random write, depth 32, no flush": (WRITE | dict(iodepth=32), "iops", "elide-memory", "nbdkit-memory", 1.0),
    "mixed 70/30, 4 KiB, depth 32": (dict(rw="randrw", bs="4k", iodepth=32, rwmixread=70), "iops", "elide-memory", "nbdkit-memory", 1.1),
    "sequential write 256 KiB, depth 16": (SEQ | dict(rw="write"), "MiB/s", "elide", "qemu-nbd", 0.8),
    "sequential write, store elsewhere": (SEQ | dict(rw="write"), "MiB/s", "elide-apart", "qemu-nbd", 0.8),
    "FLUSH after one 4 KiB write, median": (WRITE | dict(iodepth=1, fsync=1), "flush p50 us", "elide-apart", "fdatasync", 1.5),
    "FLUSH after one 4 KiB write, p99": (WRITE | dict(iodepth=1, fsync=1), "flush p99 us", "elide-apart", "fdatasync", 2.0),
    "sequential read after random overwrite": (SEQ | dict(rw="read"), "MiB/s", "elide-apart", "nbdkit-memory", 1.2),
}
# What must be done to both servers before a row.
FLUSHES = dict(rw="randwrite", bs="4k", iodepth=1, fsync=1, io_size="40m")
BEFORE = {
    "sequential read after random overwrite": dict(rw="randwrite", bs="4k", iodepth=32, io_size="768m"),
    # So that the write-ahead file in use is one that was prepared while flushes were frequent.
    "FLUSH after one 4 KiB write, median": FLUSHES,
    "FLUSH after one 4 KiB write, p99": FLUSHES,
}

# Rows that begin when nothing of earlier ones is left to be done; the others take the machine as they find it.
QUIET = {name for name in ROWS if "read" in name or "FLUSH" in name}

# name: (fio options, server, target): bytes that the disk took per byte of the guest. The store lies elsewhere. A new volume writes
# places that were never written, which the file system notes in its journal; one whose cache is full uses its files again.
AMPLIFICATION = {
    "written per byte, 4 KiB depth 32, flush/32": (WRITE | dict(iodepth=32, fsync=32, io_size="512m"), "elide-apart", 1.12),
    "the same, cache full": (WRITE | dict(iodepth=32, fsync=32, io_size="512m"), "elide-full", 1.12),
    "written per byte, 4 KiB depth 1, no flush": (WRITE | dict(iodepth=1, io_size="512m"), "elide-apart", 1.10),
    "written per byte, sequential 256 KiB": (SEQ | dict(rw="write", io_size="1g"), "elide-apart", 1.05),
}

class Disk:
    """The file system that the rows "disk" use."""

    def __init__(self, directory, plain, size=16 << 30):
        self.root, self.device = tempfile.mkdtemp(prefix="elide-bench-", dir=directory), None
        if plain or os.geteuid() != 0 or not shutil.which("losetup"):
            return
        self.image = os.path.join(directory, "elide-bench-disk.img")
        if not os.path.exists(self.image) or os.stat(self.image).st_blocks * 512 < size:
            print(f"writing {self.image} once, {size >> 30} GiB; it is kept for the next run", flush=True)
            subprocess.run(["fallocate", "-l", str(size), self.image], check=True)
            run(["dd", "if=/dev/zero", f"of={self.image}", "bs=4M", f"count={size >> 22}", "conv=notrunc,fdatasync"])
        self.device = run(["losetup", "-f", "--show", "--direct-io=on", self.image]).strip()
        run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", self.device])
        run(["mount", "-o", "nodiscard", self.device, self.root])

    def written(self):
        """Bytes the device has taken, all that is in memory included; None where nobody counts."""
        if self.device is None:
            return None
        os.sync()
        with open(f"/sys/block/{os.path.basename(self.device)}/stat") as f:
            return int(f.read().split()[6]) * 512

    def is_filling(self):
        s = os.statvfs(self.root)
        return s.f_bavail * s.f_frsize < 6 << 30

    def close(self):
        if self.device:
            run(["umount", self.root])
            run(["losetup", "-d", self.device])
        shutil.rmtree(self.root, ignore_errors=True)

class Server:
    """A server in the foreground, on a socket and a directory of its own; filled before it is measured."""

    def __init__(self, name, command, uri, directories, environment=None):
        self.name, self.uri, self.directories, self.environment = name, uri, directories, environment
        self.log = open(os.path.join(directories[0], "log"), "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 60
        while subprocess.run(["nbdinfo", "--size", uri], capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not come up; see {self.log.name}: {open(self.log.name).read()[-500:]}")
            time.sleep(0.05)

    def ticks(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def fio(self, options, seconds=None):
        before = self.ticks()
        job = fio(options | dict(ioengine="nbd", uri=self.uri), seconds)
        used = (self.ticks() - before) / os.sysconf("SC_CLK_TCK")
        # The ramp is not in fio's count of requests, but in the server's time.
        counted = (job["read"]["runtime"] + job["write"]["runtime"]) / (2 if job["read"]["runtime"] and job["write"]["runtime"] else 1)
        share = counted / 1000 / (counted / 1000 + (0.5 if seconds else 0)) if counted else 1
        job["cpu"] = used * share * 1e6 / max(1, job["read"]["total_ios"] + job["write"]["total_ios"])
        return job

    def status(self, elide):
        text = run(["env"] + [f"{k}={v}" for k, v in self.environment.items()] + [elide, "status", "--json"])
        return json.loads(text)["volumes"][0]["status"]

    def settle(self, elide):
        """Waits until nothing is left to be sealed and sent: of the files only the open and the prepared one remain."""
        while self.environment:
            status = self.status(elide)
            if status["unsealedFiles"] <= 2 and status["unsentBytes"] == 0:
                return
            time.sleep(0.2)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)

class BareFile:
    """A preallocated file that was written once: what fdatasync costs at best."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "bare")
        fio(dict(rw="write", bs="1m", ioengine="psync", filename=self.path, end_fsync=1), None)

    def fio(self, options, seconds=None):
        return fio(options | dict(ioengine="psync", filename=self.path, fdatasync=options["fsync"], fsync=0), seconds)

    def settle(self, elide):
        os.sync()

    def stop(self):
        os.unlink(self.path)

def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

def fio(options, seconds):
    command = ["fio", "--name=row", f"--size={SIZE}", "--output-format=json", "--randrepeat=0", "--norandommap",
               "--random_generator=tausworthe64", "--percentile_list=50:99"]
    if seconds:
        command += ["--time_based", f"--runtime={seconds}", "--ramp_time=0.5"]
    command += [f"--{k}={v}" for k, v in options.items()]
    out = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if out.returncode != 0:
        sys.exit(f"fio failed: {command}: {out.stderr[-800:]}{out.stdout[-400:]}")
    return json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]

def metric(job, kind):
    if kind == "iops":
        return job["read"]["iops"] + job["write"]["iops"]
    if kind == "MiB/s":
        return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / (1 << 20)
    return job["sync"]["lat_ns"]["percentile"]["50.000000" if "p50" in kind else "99.000000"] / 1000

def start(kind, elide, disk):
    memory = lambda: tempfile.mkdtemp(prefix="elide-bench-", dir="/dev/shm")
    if kind == "fdatasync":
        return BareFile(disk.root)
    directory = memory() if kind.endswith("memory") else tempfile.mkdtemp(prefix=f"{kind}-", dir=disk.root)
    # Socket paths are short: not below a directory that somebody chose.
    directories = [memory(), directory]
    socket = os.path.join(directories[0], "s")
    if kind.startswith("elide"):
        store = directories[0] if kind in ("elide-apart", "elide-full") else directory
        variables = dict(ELIDE_DATA_DIR=f"{directory}/data", ELIDE_STORE=f"file://{store}/store")
        env = ["env"] + [f"{k}={v}" for k, v in variables.items()]
        run(env + [elide, "volume", "create", "v", "--size", str(SIZE)])
        more = {"elide-spin": ["--spin", "50"], "elide-full": ["--cache-bytes", "512M"]}.get(kind, [])
        server = Server(kind, env + [elide, "serve", "v", "--nbd", f"unix:{socket}"] + more, f"nbd+unix:///v?socket={socket}",
                        directories, variables)
    elif kind == "nbdkit-memory":
        server = Server(kind, ["nbdkit", "-f", "-U", socket, "memory", f"size={SIZE}"], f"nbd+unix:///?socket={socket}", directories)
    else:
        file = os.path.join(directory, "disk")
        # Filled, not sparse: the peer overwrites allocated blocks, as a disk in use does.
        run(["fallocate", "-l", str(SIZE), file])
        command = ["qemu-nbd", "-f", "raw", "-t", "-e", "8", "--cache=writeback", "-k", socket, file]
        server = Server(kind, command, f"nbd+unix:///?socket={socket}", directories)
    # Random contents: nothing is deduplicated or found to be zero.
    server.fio(dict(rw="write", bs="1m", iodepth=8, refill_buffers=1))
    return server

class Bench:
    def __init__(self, arguments, disk):
        self.arguments, self.disk, self.servers, self.results = arguments, disk, {}, {}

    def server(self, kind):
        if kind not in self.servers:
            self.servers[kind] = start(kind, self.arguments.elide, self.disk)
        return self.servers[kind]

    def tidy(self):
        """Stops what has filled the disk; the next row that needs it starts anew."""
        if self.disk.is_filling():
            for kind in [k for k in self.servers if k in ("elide", "elide-apart", "elide-full", "elide-spin")]:
                self.servers.pop(kind).stop()

    def row(self, name, options, kind, mine, peer, target):
        figures, cpu = {mine: [], peer: []}, {mine: [], peer: []}
        for server in figures:
            if name in BEFORE:
                self.server(server).fio(BEFORE[name])
            if name in QUIET:
                self.server(server).settle(self.arguments.elide)
        for _ in range(self.arguments.rounds):
            for server in figures:
                job = self.server(server).fio(options, self.arguments.seconds)
                figures[server].append(metric(job, kind))
                cpu[server].append(job.get("cpu", 0))
        a, b = (statistics.median(figures[s]) for s in figures)
        self.say(name, kind, figures, a / b, target, "flush" in kind, {s: statistics.median(v) for s, v in cpu.items()})

    def amplification(self, name, options, kind, target):
        server = self.server(kind)
        ratios = []
        for _ in range(self.arguments.rounds):
            # What is still to be uploaded cannot be used again; and what was written is sealed and noted before it is counted.
            server.settle(self.arguments.elide)
            before = self.disk.written()
            job = server.fio(options)
            server.settle(self.arguments.elide)
            ratios.append((self.disk.written() - before) / job["write"]["io_bytes"])
        self.say(name, "ratio", {kind: ratios}, statistics.median(ratios), target, True)

    def say(self, name, kind, figures, ratio, target, less, cpu={}):
        self.results[name] = dict(figures=figures, ratio=ratio, target=target, unit=kind, cpu=cpu)
        used = "   cpu " + " / ".join(f"{v:.1f}" for v in cpu.values()) if cpu else ""
        digits = 2 if kind == "ratio" else 0
        show = lambda v: "/".join(f"{x:,.{digits}f}" for x in (min(v), statistics.median(v), max(v)))
        met = ratio <= target if less else ratio >= target
        sides = "   ".join(f"{s} {show(v):>24}" for s, v in figures.items())
        print(f"{name:44} {kind:12} {sides}   {ratio:5.2f}x  target {'≤' if less else '≥'} {target} {'ok' if met else 'MISSED'}{used}", flush=True)

    def stages(self):
        """Where the time went in the servers that still run."""
        for kind, server in self.servers.items():
            if not getattr(server, "environment", None):
                continue
            for stage in server.status(self.arguments.elide)["stages"]:
                rate = stage["bytes"] / max(1, stage["microseconds"])
                print(f"  {kind:13} {stage['stage']:7} {stage['count']:>9,} calls {stage['bytes'] >> 20:>8,} MiB "
                      f"{stage['microseconds'] / 1e6:>8.2f} s {rate:>8,.0f} MB/s")

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elide", default=".build/release/elide")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--rows", help="parts of row names, separated by commas")
    parser.add_argument("--plain", action="store_true", help="no file system of its own")
    parser.add_argument("--json", help="write the figures to this file too")
    a = parser.parse_args()
    wanted = lambda name: not a.rows or any(p in name for p in a.rows.split(","))
    disk = Disk(a.dir, a.plain)
    bench = Bench(a, disk)
    try:
        for name, row in ROWS.items():
            if wanted(name):
                bench.row(name, *row)
                bench.tidy()
        for name, row in AMPLIFICATION.items():
            if wanted(name) and disk.device:
                bench.amplification(name, *row)
                bench.tidy()
        bench.stages()
    finally:
        for server in bench.servers.values():
            server.stop()
        disk.close()
    if a.json:
        json.dump(bench.results, open(a.json, "w"), indent=1)

if __name__ == "__main__":
    main()

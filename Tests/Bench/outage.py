#!/usr/bin/python3
"""The guest of Tests/Bench/outage.sh: blocks whose contents name themselves, over NBD.

    outage.py fill URI FIRST COUNT                write blocks [FIRST, FIRST+COUNT), generation 0
    outage.py read URI FIRST COUNT PACE LOG       read them in random order, PACE a second, compare, until SIGTERM; a line of
                                                  LOG for each read that took a second or longer
    outage.py push URI FIRST COUNT LOG            write as fast as it goes, 64 KiB at a time, until ENOSPC; then try until
                                                  SIGUSR1 has said that the store is back and a write succeeds; write 64 MiB
                                                  more, and flush. LOG tells the rate of each 5 seconds and what happened,
                                                  LOG.acked the last acknowledged generation of each place
    outage.py check URI FIRST COUNT [LOG.acked]   read back and compare
"""
import errno, hashlib, random, signal, sys, time
import nbd

BLOCK, CHUNK = 4096, 16


def content(lba, generation):
    seed = f"{lba}:{generation}".encode()
    return (seed.ljust(64, b".") + hashlib.sha256(seed).digest() * 126)[:BLOCK]


def chunk(lba, generation):
    return b"".join(content(lba + i, generation) for i in range(CHUNK))


def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def fill(uri, first, count):
    h = connect(uri)
    for lba in range(first, first + count, CHUNK):
        h.pwrite(chunk(lba, 0), lba * BLOCK)
    h.flush()


def read(uri, first, count, pace, log):
    h, stop = connect(uri), []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    order = list(range(first, first + count, CHUNK))
    random.Random(5).shuffle(order)
    done = slow = 0
    with open(log, "w", buffering=1) as out:
        for n in range(1 << 62):
            if stop:
                break
            lba, begin = order[n % len(order)], time.monotonic()
            if h.pread(CHUNK * BLOCK, lba * BLOCK) != chunk(lba, 0):
                sys.exit(f"block {lba}: not what was written")
            took = time.monotonic() - begin
            done += 1
            if took >= 1:
                slow += 1
                out.write(f"{lba} {took:.1f}\n")
            time.sleep(1 / pace)
    print(f"reader: {done} reads of 64 KiB, all right; {slow} took a second or longer")


class Pusher:
    """Overwrites a region again and again; each round is a generation."""

    def __init__(self, uri, first, count, log):
        self.h, self.first, self.count = connect(uri), first, count
        self.out, self.acked = open(log, "w", buffering=1), {}
        self.next, self.bytes = 0, 0
        self.begin = self.mark = time.monotonic()
        self.marked, self.slowest = 0, 0.0

    def say(self, text):
        line = f"{time.monotonic() - self.begin:6.1f} s {self.bytes >> 20:5} MiB  {text}"
        self.out.write(line + "\n")
        print(line, flush=True)

    def write(self):
        """One chunk; False at ENOSPC. A failed write may be there in part: it is written again before anything else."""
        lba = self.first + self.next * CHUNK % self.count
        generation, begin = 1 + self.next * CHUNK // self.count, time.monotonic()
        try:
            self.h.pwrite(chunk(lba, generation), lba * BLOCK)
        except nbd.Error as e:
            if e.errnum != errno.ENOSPC:
                raise
            return False
        now = time.monotonic()
        self.slowest = max(self.slowest, now - begin)
        self.acked[lba] = generation
        self.next += 1
        self.bytes += CHUNK * BLOCK
        if now - self.mark >= 5:
            rate = (self.bytes - self.marked) / (now - self.mark) / 1e6
            self.say(f"{rate:7.2f} MB/s, slowest write {self.slowest:.2f} s")
            self.mark, self.marked, self.slowest = now, self.bytes, 0.0
        return True


def push(uri, first, count, log):
    p, back = Pusher(uri, first, count, log), []
    signal.signal(signal.SIGUSR1, lambda *_: back.append(1))
    while p.write():
        if back:
            sys.exit("the store came back before ENOSPC")
    p.say("ENOSPC")
    refused = 1
    lba, generation = next(iter(p.acked.items()))
    while True:
        # Meanwhile everything but writing works.
        p.h.flush()
        if p.h.pread(CHUNK * BLOCK, lba * BLOCK) != chunk(lba, p.acked[lba]):
            sys.exit("a local read is wrong")
        if p.write():
            break
        refused += 1
        time.sleep(0.5)
    if not back:
        sys.exit("a write went through without the store")
    p.say(f"writes go on, after {refused} that were refused")
    until = p.bytes + (64 << 20)
    while p.bytes < until:
        if not p.write():
            sys.exit("ENOSPC though the store is there")
    p.h.flush()
    p.say("done")
    with open(log + ".acked", "w") as f:
        for lba, generation in sorted(p.acked.items()):
            f.write(f"{lba} {generation}\n")


def check(uri, first, count, acked=None):
    h = connect(uri)
    wanted = {lba: 0 for lba in range(first, first + count, CHUNK)}
    if acked:
        wanted = {int(a): int(b) for a, b in (line.split() for line in open(acked))}
    for lba, generation in wanted.items():
        if h.pread(CHUNK * BLOCK, lba * BLOCK) != chunk(lba, generation):
            sys.exit(f"block {lba}: not what was written")
    print(f"{len(wanted) * CHUNK * BLOCK >> 20} MiB compared")


if __name__ == "__main__":
    what, uri, first, count, *rest = sys.argv[1:]
    args = (uri, int(first), int(count))
    if what == "fill":
        fill(*args)
    elif what == "read":
        read(*args, float(rest[0]), rest[1])
    elif what == "push":
        push(*args, rest[0])
    elif what == "check":
        check(*args, *rest)
    else:
        sys.exit(__doc__)

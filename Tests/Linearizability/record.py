#!/usr/bin/python3
"""usage: record.py --uri URI --out FILE --host NAME [--blocks 64] [--seconds 10] [--threads 4] [--seed N] [--retry]

A client that reads and writes single blocks of an NBD export at random from several connections, and records when each request
was sent, when it was answered, and what it showed: for histories.py. Every write has a value of its own, in each of the block's
words, so that a torn block is seen. Appends to FILE. Ends after so many seconds, at SIGTERM, or when the export is gone; --retry
connects again instead. An error is recorded as an operation without an end.
"""
import argparse, json, os, random, signal, struct, sys, threading, time
import nbd

BLOCK = 4096
WORDS = BLOCK // 8
stop = threading.Event()


def content(value):
    return struct.pack("<Q", value) * WORDS


def value(block):
    words = set(struct.unpack(f"<{WORDS}Q", block))
    return words.pop() if len(words) == 1 else -1


class Recorder:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.out = open(options.out, "a", buffering=1)
        # Values of several runs, hosts and threads never meet.
        self.next = int.from_bytes(os.urandom(5), "big") << 20

    def fresh(self):
        with self.lock:
            self.next += 1
            return self.next

    def keep(self, **record):
        with self.lock:
            self.out.write(json.dumps(record) + "\n")

    def connect(self):
        handle = nbd.NBD()
        handle.connect_uri(self.options.uri)
        return handle

    def work(self, seed):
        draw = random.Random(seed)
        handle = None
        while not stop.is_set():
            try:
                handle = handle or self.connect()
                self.one(handle, draw)
            except nbd.Error:
                handle = None
                if not self.options.retry:
                    return
                stop.wait(0.01)

    def one(self, handle, draw):
        block, host = draw.randrange(self.options.blocks), self.options.host
        offset = block * BLOCK
        if draw.random() < 0.05:
            return handle.flush()
        written = self.fresh() if draw.random() < 0.5 else None
        data = content(written) if written else None
        start, end, shown = time.monotonic_ns(), None, None
        try:
            if written:
                handle.pwrite(data, offset, nbd.CMD_FLAG_FUA if draw.random() < 0.1 else 0)
            else:
                shown = handle.pread(BLOCK, offset)
            end = time.monotonic_ns()
        finally:
            if written:
                self.keep(op="write", block=block, value=written, start=start, end=end, host=host)
            elif end:
                self.keep(op="read", block=block, value=value(shown), start=start, end=end, host=host)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--uri", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--host", required=True)
    p.add_argument("--blocks", type=int, default=64)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--threads", type=int, default=4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--retry", action="store_true")
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    recorder = Recorder(options)
    workers = [threading.Thread(target=recorder.work, args=(options.seed * 1000 + n,)) for n in range(options.threads)]
    for w in workers:
        w.start()
    until = time.monotonic() + options.seconds
    while any(w.is_alive() for w in workers) and time.monotonic() < until and not stop.is_set():
        stop.wait(0.05)
    stop.set()
    for w in workers:
        w.join()


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Writes blocks whose contents name themselves, and notes each one the server acknowledged.

    writer.py URI LOG COUNT          write until COUNT are acknowledged or the server is gone
    writer.py --check URI LOG        read back: each LBA holds its last acknowledged write, or a later one that was in flight

A line of LOG is "sequence lba blocks"; "+" before it marks a write that was sent, so that a check knows what may be there.
"""
import hashlib, random, sys
import nbd

BLOCK = 4096

def content(sequence, lba):
    """A block that tells which write made it: nothing else produces these bytes."""
    seed = f"{sequence}:{lba}".encode()
    return (seed.ljust(64, b".") + hashlib.sha256(seed).digest() * 126)[:BLOCK]

def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h

def write(uri, log, count):
    h = connect(uri)
    blocks = h.get_size() // BLOCK
    rng = random.Random(7)
    with open(log, "a", buffering=1) as out, open(log + ".sent", "a", buffering=1) as sent:
        try:
            first = sum(1 for _ in open(log + ".sent"))
        except FileNotFoundError:
            first = 0
        for sequence in range(first, first + count):
            # A quarter of a small region, so that writes overlap, and the rest anywhere.
            n = rng.choice([1, 1, 1, 2, 5, 16])
            lba = rng.randrange(0, 64) if rng.random() < 0.25 else rng.randrange(0, blocks - n)
            data = b"".join(content(sequence, lba + i) for i in range(n))
            sent.write(f"{sequence} {lba} {n}\n")
            try:
                h.pwrite(data, lba * BLOCK)
            except nbd.Error:
                return
            out.write(f"{sequence} {lba} {n}\n")
            if sequence % 32 == 31:
                try:
                    h.flush()
                except nbd.Error:
                    return

def read_log(path):
    with open(path) as f:
        return [tuple(map(int, line.split())) for line in f if line.endswith("\n") and len(line.split()) == 3]

def check(uri, log):
    acked = read_log(log)
    sent = read_log(log + ".sent")
    done = {s for s, _, _ in acked}
    last = {}      # lba -> sequence of the last acknowledged write
    maybe = {}     # lba -> later writes that were never acknowledged
    for s, lba, n in sent:
        for i in range(lba, lba + n):
            if s in done:
                last[i] = s
                maybe.pop(i, None)
            else:
                maybe.setdefault(i, []).append(s)
    h = connect(uri)
    lost = 0
    for lba, s in last.items():
        found = bytes(h.pread(BLOCK, lba * BLOCK))
        if found != content(s, lba) and not any(found == content(m, lba) for m in maybe.get(lba, [])):
            lost += 1
            if lost < 5:
                print(f"LBA {lba}: write {s} was acknowledged and is not there; found {found[:32]!r}")
    print(f"{len(acked)} acknowledged writes, {len(last)} blocks checked, {lost} lost")
    return 1 if lost else 0

if __name__ == "__main__":
    if sys.argv[1] == "--check":
        sys.exit(check(sys.argv[2], sys.argv[3]))
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))

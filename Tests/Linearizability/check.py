#!/usr/bin/python3
"""usage: check.py FILE...     judges recorded histories (histories.py), together; exit code 4 when they cannot have happened
       check.py --self-test    the checker against brute force, and against histories with a lie in them
"""
import itertools, json, random, sys
from histories import FOREVER, check


def read(paths):
    records = []
    for path in paths:
        with open(path) as file:
            # A recorder that was killed may have left half a line.
            for line in file:
                if line.endswith("\n"):
                    records.append(json.loads(line))
    return records


def possible(records):
    """Brute force, for a few operations on one block: is there an order?"""
    done = [r for r in records if r["op"] == "write" or r["end"] is not None]
    maybe = [r for r in done if r["end"] is None]
    for n in range(len(maybe) + 1):
        for left_out in itertools.combinations(maybe, n):
            chosen = [r for r in done if not any(r is l for l in left_out)]
            if search(chosen, 0):
                return True
    return False


def search(rest, held):
    if not rest:
        return True
    first_end = min(FOREVER if r["end"] is None else r["end"] for r in rest)
    for i, r in enumerate(rest):
        if r["start"] > first_end:
            continue
        if r["op"] == "read" and r["value"] != held:
            continue
        if search(rest[:i] + rest[i + 1:], r["value"] if r["op"] == "write" else held):
            return True
    return False


def simulated(draw, count, clients, blocks=1):
    """A linearizable history: each operation takes effect at a moment between its start and its end."""
    records, held, now = [], {}, 0
    free = {c: 0 for c in range(clients)}
    moments = []
    for n in range(count):
        client = draw.randrange(clients)
        start = free[client] + draw.randrange(1, 6)
        at, end = start + draw.randrange(1, 9), 0
        end = at + draw.randrange(1, 9)
        free[client] = end
        op = draw.choice(("read", "write"))
        moments.append((at, n, {"op": op, "block": draw.randrange(blocks), "value": 100 + n,
                                "start": start * 10000 + n, "end": end * 10000 + n, "host": "a"}))
    for _, _, r in sorted(moments, key=lambda m: m[:2]):
        if r["op"] == "write":
            held[r["block"]] = r["value"]
        else:
            r["value"] = held.get(r["block"], 0)
        records.append(r)
    return records


def brute_force(draw, rounds):
    disagreements = refused = 0
    for _ in range(rounds):
        records = simulated(draw, draw.randrange(2, 8), 3)
        assert not check(records).faults, (records, str(check(records)))
        writes = [r["value"] for r in records if r["op"] == "write"]
        for r in records:
            if r["op"] == "read" and draw.random() < 0.4:
                r["value"] = draw.choice(writes + [0])
            if r["op"] == "write" and draw.random() < 0.15:
                r["end"] = None
        expected, found = possible(records), not check(records).faults
        refused += not expected
        if expected != found:
            disagreements += 1
            print("expected", expected, "found", found, json.dumps(records))
    assert disagreements == 0 and refused > rounds // 20, (disagreements, refused)
    return refused


def stories():
    """Histories of people, each with what is to be said of it."""
    def record(op, block, value, start, end, host="a"):
        return {"op": op, "block": block, "value": value, "start": start, "end": end, "host": host}

    def w(*arguments):
        return record("write", *arguments)

    def r(*arguments):
        return record("read", *arguments)

    def force(at, covered):
        return {"op": "taken", "from": "a", "to": "b", "at": at, "covered": covered}

    before = [w(1, 10, 0, 5), w(2, 20, 6, 9), w(1, 11, 10, 15), w(2, 21, 16, 19)]
    return [
        ("a read of what was written", True, [w(1, 10, 0, 5), r(1, 10, 6, 7)]),
        ("a stale read", False, [w(1, 10, 0, 5), w(1, 11, 6, 8), r(1, 10, 9, 10)]),
        ("a lost write", False, [w(1, 10, 0, 5), r(1, 0, 6, 7)]),
        ("a torn block", False, [w(1, 10, 0, 5), r(1, -1, 6, 7)]),
        ("a value of another block", False, [w(1, 10, 0, 5), r(2, 10, 6, 7)]),
        ("a read from the future", False, [r(1, 10, 0, 1), w(1, 10, 2, 3)]),
        ("a write without an answer, seen later", True, [w(1, 10, 0, None), r(1, 0, 1, 2), r(1, 10, 3, 4)]),
        ("the same, seen and gone", False, [w(1, 10, 0, None), r(1, 10, 1, 2), r(1, 0, 3, 4)]),
        ("a claim loses nothing", False, [w(1, 10, 0, 5), w(1, 11, 6, 8), r(1, 10, 20, 21, "b")]),
        ("over a claim", True, [w(1, 10, 0, 5), w(1, 11, 6, 8), r(1, 11, 20, 21, "b")]),
        ("a force keeps what was covered", True, before + [force(30, 9), r(1, 10, 31, 32, "b"), r(2, 20, 33, 34, "b")]),
        ("a force may keep more", True, before + [force(30, 9), r(1, 11, 31, 32, "b"), r(2, 20, 33, 34, "b")]),
        ("a force loses what was covered", False, before + [force(30, 15), r(1, 10, 31, 32, "b")]),
        ("a mixture: the later write without the earlier", False,
         before + [force(30, 9), r(1, 10, 31, 32, "b"), r(2, 21, 33, 34, "b")]),
        ("what was lost comes back", False, before + [force(30, 9), r(1, 10, 31, 32, "b"), r(1, 11, 33, 34, "b")]),
        ("a late write of the old host is inert", True,
         before + [force(30, 19), w(1, 12, 31, 32, "a"), r(1, 11, 33, 34, "b"), r(2, 21, 35, 36, "b")]),
        ("a late write of the old host is seen", False,
         before + [force(30, 19), w(1, 12, 31, 32, "b"), w(1, 13, 33, 34, "a"), r(1, 13, 35, 36, "b")]),
        ("bytes from nowhere after a force", False, before + [force(30, 9), r(1, 99, 31, 32, "b")]),
    ]


def self_test():
    for what, expected, history in stories():
        verdict = check(history)
        assert (not verdict.faults) == expected, f"{what}: {verdict}"
        print("ok -", what)
    draw = random.Random(7)
    print(f"ok - as brute force, {brute_force(draw, 4000)} of 4000 small histories refused")
    # Large ones: none refused as they are, each refused with one stale read.
    for n in range(20):
        history = simulated(draw, 3000, 8, blocks=16)
        assert not check(history).faults, str(check(history))
        writes = sorted((r for r in history if r["op"] == "write" and r["block"] == 3), key=lambda r: r["start"])
        old, new = writes[0], next(w for w in writes if w["start"] > writes[0]["end"])
        later = new["end"]
        history.append({"op": "read", "block": 3, "value": old["value"], "start": later + 1, "end": later + 2, "host": "a"})
        assert check(history).faults
    print("ok - 20 histories of 3000 operations, and the same with a stale read")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if not sys.argv[1:]:
        sys.exit(__doc__)
    verdict = check(read(sys.argv[1:]))
    print(verdict)
    sys.exit(4 if verdict.faults else 0)


if __name__ == "__main__":
    main()

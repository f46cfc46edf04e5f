"""Whether a recorded history of reads and writes could have happened on one device, block by block, over hand-overs.

A history is a list of records (dicts; in files one JSON object a line). Times are nanoseconds of one clock.

    {"op": "write", "block": 7, "value": 41, "start": 10, "end": 20, "host": "a"}
    {"op": "read",  "block": 7, "value": 41, "start": 30, "end": 35, "host": "a"}
    {"op": "taken", "from": "a", "to": "b", "at": 50, "covered": 30}

A write without an end had no answer, or an error: it may have happened. A read's value is 0 when the block was never written,
-1 when its bytes are of no write, or of two. Every write has a value of its own.

Without "taken" records all hosts are one device, as they must be over a stop, release and claim, and over a kill of the process:
each block is then a register, and the history has to be linearizable (Herlihy, Wing); with values of their own that is decided by
zones (Gibbons, Korach). A block's history is judged by itself: linearizability is local.

"taken" is a force: host `from` lost the device, and what it had acknowledged after the moment `covered` (the last cut that it
reported) may be gone. What the next host begins with has to be a prefix of what was written: everything that had ended by
`covered`, and, if a later write is there, everything that had ended before that one began.
"""
import bisect
from collections import defaultdict

FOREVER = float("inf")


class Verdict:
    def __init__(self):
        self.faults, self.operations, self.blocks, self.lost, self.late_reads = [], 0, 0, 0, 0

    def __str__(self):
        head = f"{self.operations} operations on {self.blocks} blocks"
        if self.lost:
            head += f", {self.lost} acknowledged writes lost by a force, all beyond what was covered"
        if self.late_reads:
            head += f", {self.late_reads} reads of a host that had lost the device"
        end = f"NOT LINEARIZABLE: {len(self.faults)} faults" if self.faults else "linearizable"
        return "\n".join([head, *self.faults[:20], end])


def check(history):
    verdict = Verdict()
    taken = sorted((r for r in history if r["op"] == "taken"), key=lambda r: r["at"])
    ages = split([r for r in history if r["op"] in ("read", "write")], taken, verdict)
    values = {}
    for record in (r for age in ages for r in age):
        verdict.operations += 1
        if record["op"] == "write" and values.setdefault(record["value"], record) is not record:
            verdict.faults.append(f"two writes of value {record['value']}: the history cannot be judged")
    if verdict.faults:
        return verdict
    blocks = sorted({r["block"] for age in ages for r in age})
    verdict.blocks = len(blocks)
    # What each block may begin with: the write that the first reads of the age show; None while nobody has looked.
    begins = {block: None for block in blocks}
    for number, age in enumerate(ages):
        byblock = defaultdict(list)
        for record in age:
            byblock[record["block"]].append(record)
        if number:
            begins = recovered(ages[:number], byblock, taken[number - 1], begins, verdict)
        for block, records in byblock.items():
            register(block, records, begins.get(block), verdict)
    return verdict


def split(records, taken, verdict):
    """One list for each time between forces. A host that has lost the device belongs to the time before."""
    ages = [[] for _ in range(len(taken) + 1)]
    gone = {t["from"]: i for i, t in reversed(list(enumerate(taken)))}
    for record in records:
        age = sum(1 for t in taken if record["start"] >= t["at"])
        lost = gone.get(record["host"])
        if lost is not None and age > lost and not any(t["to"] == record["host"] for t in taken[lost + 1:age]):
            age = lost
            verdict.late_reads += record["op"] == "read"
        ages[age].append(record)
    return ages


def recovered(earlier, byblock, force, begins, verdict):
    """What each block begins with after a force, as far as reads show; judged against a prefix of what was written."""
    writes, shown = defaultdict(list), {}
    for record in (r for age in earlier for r in age if r["op"] == "write"):
        writes[record["block"]].append(record)
    for block, records in byblock.items():
        own = {r["value"] for r in records if r["op"] == "write"}
        seen = {r["value"] for r in records if r["op"] == "read" and r["value"] not in own}
        if len(seen) > 1:
            verdict.faults.append(f"block {block}: after the force reads show {sorted(seen)}, of before it: more than one")
        if seen:
            shown[block] = min(seen)
    found = {}
    for block, value in shown.items():
        write = next((w for w in writes[block] if w["value"] == value), None)
        if value != 0 and write is None:
            verdict.faults.append(f"block {block}: after the force a read shows {value}, which nobody had written there")
        found[block] = write
    # A write that is there brings all with it that had ended before it began.
    covered = max([force["covered"], *(w["start"] for w in found.values() if w)])
    for block, write in found.items():
        since = write["end"] if write and write["end"] is not None else (FOREVER if write else -1)
        for w in writes[block]:
            if w["end"] is None or w is write or w["start"] <= since:
                continue
            if w["end"] <= covered:
                verdict.faults.append(
                    f"block {block}: value {w['value']}, acknowledged at {w['end']}, is lost to {write['value'] if write else 0}"
                    f" by a force that covers {covered}")
            else:
                verdict.lost += 1
    return {block: shown.get(block) for block in begins}


def register(block, records, begin, verdict):
    """One block of one age as a register that begins with the value `begin` (None: any)."""
    clusters = defaultdict(lambda: {"write": None, "reads": []})
    for r in records:
        if r["op"] == "write":
            clusters[r["value"]]["write"] = r
        elif r["end"] is not None:
            clusters[r["value"]]["reads"].append(r)
    zones = []
    for value, cluster in clusters.items():
        write, reads = cluster["write"], cluster["reads"]
        if write is None:
            if value != (begin or 0):
                at = reads[0]["start"]
                verdict.faults.append(f"block {block}: a read at {at} shows {value}, which nobody had written there")
                continue
            start = end = -1
        else:
            start, end = write["start"], FOREVER if write["end"] is None else write["end"]
            # Without an answer, and never seen: it may never have happened.
            if end == FOREVER and not reads:
                continue
        for r in reads:
            if r["end"] < start:
                verdict.faults.append(f"block {block}: a read that ended at {r['end']} shows {value}, written from {start} on")
        first_end = min([end, *(r["end"] for r in reads)])
        last_start = max([start, *(r["start"] for r in reads)])
        zones.append((min(first_end, last_start), max(first_end, last_start), first_end < last_start, value))
    # A forward zone is a time in which the register has to hold its value.
    forward = sorted(z for z in zones if z[2])
    for a, b in zip(forward, forward[1:]):
        if b[0] < a[1]:
            verdict.faults.append(f"block {block}: holds {a[3]} from {a[0]} to {a[1]}, and {b[3]} from {b[0]} to {b[1]}")
    starts = [z[0] for z in forward]
    for low, high, is_forward, value in zones:
        if is_forward:
            continue
        i = bisect.bisect_right(starts, low) - 1
        if i >= 0 and forward[i][0] < low and high < forward[i][1]:
            since, until, _, held = forward[i]
            verdict.faults.append(
                f"block {block}: {value} was there between {low} and {high}, while it held {held} from {since} to {until}")

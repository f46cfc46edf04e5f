#!/usr/bin/python3
"""usage: audit.py PATH/elide [--write]

What auditors see: every `events` command over `fixtures/audit/bucket`, a copy of a bucket in which three hosts had a name one
after the other. Outputs are compared with `fixtures/audit/golden`; --write makes those that are missing.
"""
import json, os, shutil, signal, subprocess, sys, tempfile
from pathlib import Path
from cases import attempt, finish

ELIDE = sys.argv[1]
WRITE = "--write" in sys.argv
FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures" / "audit"
BUCKET, GOLDEN = FIXTURES / "bucket", FIXTURES / "golden"
NOWHERE = "/tmp/elide-audit-has-no-data-directory"
VERIFIER = Path(__file__).resolve().parent.parent.parent / "scripts" / "verifier" / "verify-bucket.py"


def environment(store):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ELIDE_")}
    return clean | {"ELIDE_DATA_DIR": NOWHERE, "ELIDE_STORE": f"file://{store}", "SWIFT_BACKTRACE": "enable=no"}


def run(*arguments, code=0, store=BUCKET):
    p = subprocess.run([ELIDE, *map(str, arguments)], capture_output=True, text=True, env=environment(store))
    assert p.returncode == code, f"elide {arguments}: {p.returncode}, not {code}: {p.stderr}{p.stdout}"
    assert not os.path.exists(NOWHERE), f"elide {arguments} made a data directory"
    return p.stdout


VOLUMES = [json.loads(l)["toml"].split('volume = "')[1][:26] for l in run("events", "log", "db", "--json").splitlines()
           if json.loads(l)["kind"] in ("created", "claimed", "fenced")]

COMMANDS = {
    "log.txt": ["events", "log", "db"],
    "log-last.txt": ["events", "log", "db", "--last", "3"],
    "log-joined.txt": ["events", "log", "db", "--volume"],
    "log.jsonl": ["events", "log", "db", "--json"],
    "log-volume.txt": ["events", "log", VOLUMES[1]],
    "tail.txt": ["events", "tail", "db", "--no-follow", "--last", "2"],
    "show.txt": ["events", "show", "db", "5"],
    "verify.txt": ["events", "verify", "db", "--no-bodies"],
    "verify.json": ["events", "verify", "db", "--no-bodies", "--json"],
    "replay.txt": ["events", "replay", "db"],
    "replay.json": ["events", "replay", "db", "--json"],
    "at.txt": ["events", "at", "db", "--seq", "4"],
    "at.json": ["events", "at", "db", "--json"],
    "at-time.txt": ["events", "at", "db", "--time", "2026-09-21T14:13:30.500Z"],
    "at-volume.json": ["events", "at", "db", "--volume", "--json"],
    "diff.txt": ["events", "diff", "db", "--from-seq", "4", "--to-seq", "5"],
    "diff.json": ["events", "diff", "db", "--from-seq", "5", "--to-seq", "7", "--json"],
    "diff-volume.txt": ["events", "diff", "db", "--volume", "--from-seq", "6"],
    "blame.txt": ["events", "blame", "db", "--lba", "7"],
    "blame.json": ["events", "blame", "db", "--lba", "7", "--json"],
    "blame-nobody.txt": ["events", "blame", "db", "--lba", "100000"],
    "export-volume.jsonl": ["events", "export", VOLUMES[2]],
}


def golden():
    """every command prints what it printed"""
    for name, command in COMMANDS.items():
        out, path = run(*command), GOLDEN / name
        if not path.exists() and WRITE:
            path.parent.mkdir(exist_ok=True)
            path.write_text(out)
        assert path.read_text() == out, f"{' '.join(command)}: not as in {path}:\n{out}"


def tampering():
    """a copy with one object changed: exit code 4, and the object's name"""
    with tempfile.TemporaryDirectory() as place:
        for number, (key, change) in enumerate((
            ("events/db/0000000000000004.toml", lambda b: b.replace(b"released", b"released ", 1)),
            ("events/db/0000000000000006.toml", None),
            (f"volumes/{VOLUMES[1]}/journal/00000001", lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:]),
        )):
            copy = Path(place) / str(number)
            shutil.copytree(BUCKET, copy)
            if change is None:
                (copy / key).unlink()
            else:
                (copy / key).write_bytes(change((copy / key).read_bytes()))
            said = json.loads(run("events", "verify", "db", "--no-bodies", "--json", code=4, store=copy))
            assert said["firstFault"]["place"] == key and not said["sound"], said["firstFault"]
            assert f"the first bad object is {key}" in run("events", "verify", "db", "--no-bodies", code=4, store=copy)
            other = subprocess.run([VERIFIER, "--json", "--name", "db", copy], capture_output=True, text=True)
            assert other.returncode == 4 and json.loads(other.stdout)["first"] == key, other


def following():
    """tail -f prints an entry when it appears, and ends at Ctrl-C with 0"""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "bucket"
        shutil.copytree(BUCKET, copy)
        last = copy / "events/db/0000000000000010.toml"
        last.rename(Path(place) / "held")
        p = subprocess.Popen([ELIDE, "events", "tail", "db", "-f", "--last", "1", "--interval", "50", "--json"],
                             stdout=subprocess.PIPE, text=True, env=environment(copy))
        try:
            assert json.loads(p.stdout.readline())["seq"] == 9
            (Path(place) / "held").rename(last)
            entry = json.loads(p.stdout.readline())
            assert (entry["seq"], entry["kind"], entry["check"]) == (10, "pinned", "ok"), entry
            p.send_signal(signal.SIGINT)
            assert p.wait(30) == 0
        finally:
            p.kill()


def wrong_usage():
    """what is not there is 10, what makes no sense is 2"""
    run("events", "log", "nobody", code=10)
    run("events", "show", "db", "99", code=10)
    run("events", "at", "db", "--seq", "99", code=10)
    run("events", "at", "db", "--seq", "1", "--time", "2026-09-21T14:13:30.500Z", code=2)
    run("events", "at", "db", "--time", "yesterday", code=2)
    run("events", "at", VOLUMES[0], "--time", "2026-09-21T14:13:30.500Z", code=2)
    run("events", "diff", "db", code=2)
    run("events", "prove", "db", code=2)
    run("events", "checkpoint", "db", code=10)
    run("events", "verify", "db", "--no-bodies", "--witness", str(Path(__file__)), code=2)


def proofs():
    """a host signs a checkpoint, others check its proofs, with and without Elide"""
    with tempfile.TemporaryDirectory() as place:
        copy, data = Path(place) / "bucket", Path(place) / "host"
        shutil.copytree(BUCKET, copy)
        env = environment(copy) | {"ELIDE_DATA_DIR": str(data)}

        def host(*arguments, code=0):
            p = subprocess.run([ELIDE, *map(str, arguments)], capture_output=True, env=env)
            assert p.returncode == code, (arguments, p.returncode, p.stderr, p.stdout)
            return p.stdout

        # A host of its own; its key is published with the first volume that it makes.
        host("volume", "create", "mine", "--size", "1M")
        id = json.loads(host("status", "--json"))["host"]
        pub = copy / "hosts" / id / "host.pub"
        kept = Path(place) / "db.checkpoint"
        kept.write_bytes(host("events", "checkpoint", "db"))
        assert kept.read_text().splitlines()[1] == "11"
        host("events", "verify", "db", "--no-bodies", "--witness", kept)
        for arguments in (["--seq", 5], ["--from", 4, "--to", 9], ["--from", 4, "--checkpoint", kept]):
            proof = Path(place) / "proof"
            proof.write_bytes(host("events", "prove", "db", *arguments))
            said = json.loads(host("events", "check-proof", proof, "--host-pub", pub, "--json"))
            assert said["sound"] and said["holds"] and said["signedBy"] == [id], said
            assert subprocess.run([VERIFIER, "--proof", proof, "--trust", pub]).returncode == 0
            proof.write_bytes(proof.read_bytes().replace(b"index 5", b"index 4").replace(b"old 4", b"old 3"))
            host("events", "check-proof", proof, "--host-pub", pub, code=4)
        # The end is cut off, and with it all that is signed in the bucket: what was kept tells.
        heads = [p.relative_to(copy) for p in copy.glob("hosts/*/heads/*")]
        for gone in ["events/db/0000000000000010.toml", "names/db.toml", *heads]:
            (copy / gone).unlink()
        shutil.rmtree(data / "names", ignore_errors=True)
        host("events", "verify", "db", "--no-bodies")
        assert b"0000000000000010" in host("events", "verify", "db", "--no-bodies", "--witness", kept, code=4)


for case in (golden, tampering, following, wrong_usage, proofs):
    attempt(case, deadline=300)
finish()

#!/usr/bin/python3
"""usage: commands.py PATH/elide

What commands do with volumes that are in service, and what they print for programs. Every case has a data directory of its own.
"""
import hashlib, json, os, re, socket, subprocess, threading
import nbd
from cases import finish
from harness import case, eventually

BLOCK = 4096


def page(host, volume, number, data):
    path = host.root / "store" / "volumes" / volume / "journal" / f"{number:08d}"
    path.write_bytes(data)


def refused(call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errnum
    raise AssertionError("it was accepted")


@case
def halted(host):
    """a volume that halts answers reads, fails writes with a reason, and leaves the others alone"""
    for name in ("a", "b"):
        host.run("volume", "create", name, "--size", "64M")
    server = host.serve("a", "b")
    a, b = server.connect("a"), server.connect("b")
    a.pwrite(b"1" * BLOCK, 0)
    host.run("snapshot", "create", "a", "--label", "first")
    a.pwrite(b"2" * BLOCK, BLOCK)
    status = host.run("volume", "status", "a", "--json").json
    assert status["state"] == "serving", status
    page(host, host.volume("a"), status["page"] + 1, b"not a page")
    assert host.run("snapshot", "create", "a", "--label", "second", code=None).code != 0
    status = host.run("volume", "status", "a", "--json").json
    assert status["state"] == "halted" and "page" in status["reason"], status
    for _ in range(3):
        assert a.pread(2 * BLOCK, 0) == b"1" * BLOCK + b"2" * BLOCK
        assert refused(a.pwrite, b"3" * BLOCK, 0) == 5
        assert refused(a.flush) == 5
        assert refused(a.trim, BLOCK, 0) == 5
    c = server.connect("a")
    assert c.pread(2 * BLOCK, 0) == b"1" * BLOCK + b"2" * BLOCK
    b.pwrite(b"4" * BLOCK, 0)
    b.flush()
    host.run("snapshot", "create", "b", "--label", "fine")
    said = server.log.read_text()
    assert said.count("has halted") == 1 and status["reason"] in said, said
    for h in (a, b, c):
        h.shutdown()
    assert server.stop() not in (0, -15)
    assert host.run("volume", "status", "b", "--json").json["unsentBytes"] == 0
    # The store is put right again: what was acknowledged is there.
    os.remove(host.root / "store" / "volumes" / host.volume("a") / "journal" / f"{status['page'] + 1:08d}")
    server = host.serve("a")
    a = server.connect("a")
    assert a.pread(2 * BLOCK, 0) == b"1" * BLOCK + b"2" * BLOCK
    a.pwrite(b"5" * BLOCK, 0)
    a.flush()
    a.shutdown()
    assert server.stop() == 0


@case
def snapshot_exports(host):
    """a snapshot export is opened when asked for, closed with its last client, and unknown labels are refused"""
    host.run("volume", "create", "a", "--size", "64M")
    server = host.serve("a")
    a = server.connect("a")
    a.pwrite(b"1" * BLOCK, 0)
    host.run("snapshot", "create", "a", "--label", "s")
    a.pwrite(b"2" * BLOCK, 0)
    before = server.threads("elide-keeper")
    first, second = server.connect("a@s"), server.connect("a@s")
    assert first.pread(BLOCK, 0) == second.pread(BLOCK, 0) == b"1" * BLOCK
    assert first.is_read_only() and a.pread(BLOCK, 0) == b"2" * BLOCK
    assert server.threads("elide-keeper") == before + 1
    first.shutdown()
    assert second.pread(BLOCK, 0) == b"1" * BLOCK
    second.shutdown()
    eventually(lambda: server.threads("elide-keeper") == before, "the snapshot is still open")
    for unknown in ("a@t", "a@", "b@s", "a@s@s", "nothing"):
        refused(server.connect, unknown)
    assert server.threads("elide-keeper") == before
    third = server.connect("a@s")
    assert third.pread(BLOCK, 0) == b"1" * BLOCK
    third.shutdown()
    a.shutdown()
    assert server.stop() == 0


@case
def control_limits(host):
    """a control socket takes so many connections and requests, and goes on answering"""
    host.run("volume", "create", "a", "--size", "64M")
    server = host.serve("a")
    a = server.connect("a")
    path = str(host.root / "host" / "run" / f"{host.volume('a')}.ctl")
    host.run("volume", "status", "a")
    before = server.files()
    idle = []
    for _ in range(150):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.sendall(b"GET /v1/sta")
        idle.append(s)
        if len(idle) % 25 == 0:
            host.run("volume", "status", "a")
    eventually(lambda: server.files() <= before + 40, f"{server.files()} files open, {before} before")
    assert host.run("volume", "status", "a", "--json").json["state"] == "serving"
    for s in idle:
        s.close()
    # As long as no segment can be put the server cannot answer these.
    a.pwrite(b"1" * BLOCK, 0)
    segments = host.root / "store" / "volumes" / host.volume("a") / "segments"
    segments.write_bytes(b"in the way")
    answers = []

    def cut():
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.sendall(b"POST /v1/cut HTTP/1.1\r\nHost: elide\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        data = b""
        while more := s.recv(4096):
            data += more
        answers.append(data)

    threads = [threading.Thread(target=cut) for _ in range(24)]
    for t in threads:
        t.start()
    eventually(lambda: len(answers) == 8, "none or too many are refused")
    assert all(b'"code":75' in x for x in answers), answers
    assert host.run("volume", "status", "a", "--json").json["state"] == "serving"
    segments.unlink()
    for t in threads:
        t.join()
    assert sum(b'"cut":' in x for x in answers) == 16, answers
    # The one that accepts stays.
    eventually(lambda: server.threads("elide-http") == 1, "threads are left")
    a.shutdown()
    assert server.stop() == 0


@case
def fork_of_a_served_volume(host):
    """a volume in service is forked as it is now, and goes on"""
    host.run("volume", "create", "a", "--size", "64M")
    server = host.serve("a")
    a = server.connect("a")
    a.pwrite(b"1" * BLOCK, 0)
    host.run("volume", "create", "b", "--from", "a")
    a.pwrite(b"2" * BLOCK, 0)
    host.run("volume", "create", "c", "--from", "a")
    forks = host.serve("b", "c")
    b, c = forks.connect("b"), forks.connect("c")
    assert b.pread(BLOCK, 0) == b"1" * BLOCK and c.pread(BLOCK, 0) == b"2" * BLOCK
    b.pwrite(b"3" * BLOCK, 0)
    assert a.pread(BLOCK, 0) == b"2" * BLOCK == c.pread(BLOCK, 0)
    # A control socket that a killed server left is no server.
    a.shutdown()
    server.kill()
    host.run("volume", "create", "d", "--from", "a")
    assert {v["name"]: v.get("parent") for v in host.run("volume", "list", "--json").json["volumes"]}["d"] == host.volume("a")
    for h in (b, c):
        h.shutdown()
    assert forks.stop() == 0


@case
def events(host):
    """events export, at and diff say what happened, live, closed and from the store"""
    host.run("volume", "create", "a", "--size", "64M")
    volume = host.volume("a")
    server = host.serve("a")
    a = server.connect("a")
    a.pwrite(b"1" * BLOCK * 4, 8 * BLOCK)
    host.run("snapshot", "create", "a", "--label", "one")
    first = host.run("snapshot", "list", "a", "--json").json["snapshots"][0]["point"]
    a.pwrite(b"2" * BLOCK, 9 * BLOCK)
    a.trim(BLOCK, 11 * BLOCK)
    a.zero(BLOCK * 2, 20 * BLOCK)
    host.run("snapshot", "create", "a", "--label", "two")
    second = host.run("snapshot", "list", "a", "--json").json["snapshots"][1]["point"]

    def look(*more):
        lines = host.run("events", "export", volume, *more).out.splitlines()
        entries = [json.loads(line) for line in lines]
        assert [e["seq"] for e in entries] == list(range(len(entries)))
        previous = "none"
        for e in entries:
            digest = hashlib.sha256(e["toml"].encode()).hexdigest()
            assert digest == e["hash"] and f'prev = "{previous}"' in e["toml"], e
            previous = f"sha256:{digest}"
        kinds = [e["kind"] for e in entries]
        assert kinds[0] == "created" and kinds.count("snapshot_taken") == 2 and "segment_uploaded" in kinds
        at = host.run("events", "at", volume, "--seq", second, "--json", *more).json
        assert at["seq"] == second and at["size"] == 64 << 20 and at["snapshots"] == ["one", "two"], at
        assert host.run("events", "at", volume, "--seq", 0, "--json", *more).json["segments"] == 0
        diff = host.run("events", "diff", volume, "--from-seq", first, "--to-seq", second, "--json", *more).json["runs"]
        assert [r for r in diff if r["kind"] == "data"] == [{"lba": 9, "count": 1, "kind": "data"}], diff
        gone = {r["lba"] + i for r in diff if r["kind"] != "data" for i in range(r["count"])}
        assert 11 in gone and gone <= {11, 20, 21}, diff
        back = host.run("events", "diff", volume, "--from-seq", second, "--to-seq", first, "--json", *more).json["runs"]
        assert {"lba": 11, "count": 1, "kind": "data"} in back, back
        assert host.run("events", "diff", volume, "--from-seq", first, "--to-seq", first, "--json", *more).json["runs"] == []
        host.run("events", "at", volume, "--seq", 100000, *more, code=10)
        return entries

    live = look()
    a.shutdown()
    assert server.stop() == 0
    closed, stored = look(), look("--from-store")
    assert closed[: len(live)] == [e | {"page": c.get("page")} if "page" in c else e for e, c in zip(live, closed)]
    assert [e["hash"] for e in stored] == [e["hash"] for e in closed]
    assert all("page" in e for e in stored)


@case
def verify(host):
    """volume verify counts blocks, and names what is damaged, also for programs"""
    host.run("volume", "create", "a", "--size", "64M")
    server = host.serve("a")
    a = server.connect("a")
    a.pwrite(os.urandom(200 * BLOCK), 0)
    a.shutdown()
    assert server.stop() == 0
    report = host.run("volume", "verify", "a", "--json").json
    assert report["sound"] and report["blocks"] == 200 and report["faults"] == [] and report["faultsLeftOff"] == 0, report
    assert "200 blocks" in host.run("volume", "verify", "a").out
    # Another host, which has nothing in its cache; bodies that are damaged anywhere.
    volume = host.volume("a")
    assert host.run("volume", "verify", volume, "--json", data="other").json["blocks"] == 200
    for body in (host.root / "store" / "volumes" / volume / "segments").iterdir():
        data = bytearray(body.read_bytes())
        for at in range(0, len(data), 4096):
            data[at] ^= 0xFF
        body.write_bytes(data)
    report = host.run("volume", "verify", volume, "--json", data="third", code=4).json
    assert not report["sound"] and report["blocks"] == 0 and "cannot be read" in report["faults"][0]["detail"], report
    assert "NOT SOUND" in host.run("volume", "verify", volume, data="third", code=4).out


@case
def listing(host):
    """volume ls shows the directories of an ext4 file system, and says what it cannot find"""
    tree = host.root / "tree"
    (tree / "etc" / "a directory").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("elide\n")
    (tree / "etc" / "link").symlink_to("hostname")
    image = host.root / "root.img"
    subprocess.run(["/usr/sbin/mke2fs", "-F", "-q", "-t", "ext4", "-d", str(tree), str(image), "32M"], check=True, capture_output=True)
    host.run("volume", "import", "image", f"ext4:{image}")
    host.run("volume", "create", "vm", "--from", "image")
    for name in ("image", "vm"):
        out = host.run("volume", "ls", name, "/etc").out
        assert "hostname" in out and "a directory" in out and "link" in out, out
        assert "lost+found" in host.run("volume", "ls", name).out
    assert "hostname" not in host.run("volume", "ls", "vm", "/etc/a directory").out
    assert host.run("volume", "ls", host.volume("image"), "/etc", data="other").out.count("hostname") == 1
    for path in ("/nowhere", "/it's", "/$HOME`id`"):
        error = host.run("volume", "ls", "vm", path, code=10).err
        assert path in error, error
    assert "no directory" in host.run("volume", "ls", "vm", "/etc/hostname", code=2).err
    host.run("volume", "create", "empty", "--size", "32M")
    assert "ext4" in host.run("volume", "ls", "empty", code=1).err
    host.run("volume", "ls", "nobody", code=10)
    # In service it is listed as of what is published, or of a snapshot.
    server = host.serve("vm")
    host.run("snapshot", "create", "vm", "--label", "s")
    assert "hostname" in host.run("volume", "ls", "vm@s", "/etc").out
    assert "hostname" in host.run("volume", "ls", "vm", "/etc").out
    assert "hostname" in host.run("volume", "ls", "vm", "/etc", data="third").out
    assert server.stop() == 0


@case
def help_has_examples(host):
    """every command's help shows an example that begins with that command"""
    def walk(words):
        out = host.run(*words, "--help").out
        assert "elide " + " ".join(words) in out.split("USAGE:")[0] + "elide ", f"elide {' '.join(words)} has no example"
        inside = out.split("SUBCOMMANDS:")[1] if "SUBCOMMANDS:" in out else ""
        for name in re.findall(r"^  ([a-z]+)(?=  |$)", inside, re.M):
            walk([*words, name])
            found.append(name)

    found = []
    walk([])
    assert len(found) >= 30, found


finish()

#!/usr/bin/python3
"""usage: commands.py PATH/elide

What commands do with volumes that are in service, and what they print for programs. Every case has a data directory of its own.
"""
import hashlib, os, socket, subprocess, threading
import nbd
from harness import Host, case, eventually, finish

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
    assert server.threads("elide-control") == 16
    assert host.run("volume", "status", "a", "--json").json["state"] == "serving"
    segments.unlink()
    for t in threads:
        t.join()
    assert sum(b'"cut":' in x for x in answers) == 16, answers
    eventually(lambda: server.threads("elide-control") == 0, "threads are left")
    a.shutdown()
    assert server.stop() == 0


finish()

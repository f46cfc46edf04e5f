#!/usr/bin/python3
"""usage: badinput.py PATH/elide

What people get wrong on the command line, and what lies damaged on disk: each gets the exit code of its kind and a message
that names the thing, and nothing is made, crashes or hangs.
"""
import os, socket
from pathlib import Path
from cases import finish
from harness import case


def says(host, code, words, *arguments, **more):
    """The command fails with this code, and says each of these words."""
    done = host.run(*arguments, code=code, **more)
    text = done.err
    assert text.strip(), f"elide {arguments} says nothing"
    assert not done.out or code == 4, f"elide {arguments} prints results: {done.out}"
    for word in words.split():
        assert word.replace("_", " ") in text, f"elide {arguments} does not say '{word}': {text}"
    assert "Fatal error" not in text and "ElideError" not in text and "Errno(" not in text, text


@case
def usage(host):
    """wrong flags, sizes, names, labels and sources are usage errors, code 2"""
    host.run("volume", "create", "a", "--size", "1M")
    for words, arguments in (
        ("--nonsense", ["volume", "list", "--nonsense"]),
        ("nonsense", ["nonsense"]),
        ("nonsense", ["volume", "nonsense"]),
        ("name", ["volume", "create", "--size", "1M"]),
        ("--size --from", ["volume", "create", "b"]),
        ("--size --from", ["volume", "create", "b", "--size", "1M", "--from", "a"]),
        ("1X", ["volume", "create", "b", "--size", "1X"]),
        ("-5", ["volume", "create", "b", "--size=-5"]),
        ("100 512", ["volume", "create", "b", "--size", "100"]),
        ("size", ["volume", "create", "b", "--size", "0"]),
        ("size", ["volume", "create", "b", "--size", "99999999999T"]),
        ("size", ["volume", "create", "b", "--size", "2000T"]),
        ("taken a", ["volume", "create", "a", "--size", "1M"]),
        ("name", ["volume", "create", "", "--size", "1M"]),
        ("../b", ["volume", "create", "../b", "--size", "1M"]),
        ("a@b", ["volume", "create", "a@b", "--size", "1M"]),
        ("name", ["volume", "create", "x" * 300, "--size", "1M"]),
        ("shrink", ["volume", "resize", "a", "512"]),
        ("1049089 512", ["volume", "resize", "a", "1049089"]),
        ("label 1x", ["snapshot", "create", "a", "--label", "1x"]),
        ("label", ["snapshot", "create", "a", "--label", "a/b"]),
        ("label", ["snapshot", "create", "a"]),
        ("docker://x raw: ext4:", ["volume", "import", "b", "docker://x"]),
        ("raw: ext4:", ["volume", "import", "b", "root.img"]),
        ("--nbd", ["serve", "a"]),
        ("unix: tcp:", ["serve", "a", "--nbd", "/tmp/x"]),
        ("tcp:localhost", ["serve", "a", "--nbd", "tcp:localhost"]),
        ("--spin", ["serve", "a", "--nbd", "unix:/tmp/x", "--spin", "99999999"]),
        ("targets", ["serve", "--nbd", "unix:/tmp/x"]),
        ("--to", ["cache", "trim"]),
        ("many", ["cache", "trim", "--to", "many"]),
        ("seq", ["events", "show", "a", "-1"]),
        ("--key 64", ["events", "verify", "a", "--key", "12"]),
        ("--from-seq", ["events", "diff", "a"]),
        ("/there", ["inspect", "wal", "/there/not.wal"]),
        ("a@", ["volume", "create", "b", "--from", "a@"]),
        ("a:x", ["volume", "create", "b", "--from", "a:x"]),
    ):
        says(host, 2, words, *arguments)
    assert [v["name"] for v in host.run("volume", "list", "--json").json["volumes"]] == ["a"]


@case
def missing(host):
    """names, labels, points, entries and files that are not there are code 10"""
    host.run("volume", "create", "a", "--size", "1M")
    ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    for words, arguments in (
        ("nobody", ["volume", "status", "nobody"]),
        (ulid, ["volume", "status", ulid]),
        ("nobody", ["volume", "verify", "nobody"]),
        ("nobody", ["volume", "resize", "nobody", "2M"]),
        ("nobody", ["volume", "create", "b", "--from", "nobody"]),
        (ulid, ["volume", "create", "b", "--from", ulid]),
        ("nolabel", ["volume", "create", "b", "--from", "a@nolabel"]),
        ("9999", ["volume", "create", "b", "--from", "a:9999"]),
        ("nobody", ["snapshot", "create", "nobody", "--label", "x"]),
        ("nobody", ["snapshot", "list", "nobody"]),
        ("nobody", ["serve", "nobody", "--nbd", f"unix:{host.root}/s"]),
        (ulid, ["serve", ulid, "--nbd", f"unix:{host.root}/s"]),
        ("nolabel", ["serve", "a@nolabel", "--nbd", f"unix:{host.root}/s"]),
        ("nobody", ["events", "log", "nobody"]),
        (ulid, ["events", "verify", ulid, "--from-store"]),
        ("9999", ["events", "show", "a", "9999"]),
        ("9999", ["events", "at", "a", "--seq", "9999"]),
        ("9999", ["events", "diff", "a", "--from-seq", "0", "--to-seq", "9999"]),
        ("/not/there", ["volume", "import", "b", "raw:/not/there"]),
        ("/not/there", ["volume", "import", "b", "ext4:/not/there"]),
        ("/not/there", ["inspect", "page", "/not/there"]),
        ("/not/there", ["inspect", "map", "/not/there"]),
    ):
        says(host, 10, words, *arguments)
    assert [v["name"] for v in host.run("volume", "list", "--json").json["volumes"]] == ["a"]


@case
def stores(host):
    """store URLs that are wrong, and stores that are not there, are named"""
    host.run("volume", "create", "a", "--size", "1M")
    for url in ("nonsense", "http://x/y", "file:relative", "file://host/path", "", "s3://", "file://"):
        done = host.run("volume", "list", "--store", url, code=2)
        assert "store" in done.err.lower() or url and url in done.err, f"{url}: {done.err}"
    gone = f"file://{host.root}/gone"
    for arguments in (["store", "stat"], ["events", "verify", "a", "--from-store"]):
        done = host.run(*arguments, "--store", gone, code=None)
        assert done.code in (10, 13) and f"{host.root}/gone" in done.err, f"{arguments}: {done.code} {done.err}"
    assert not (host.root / "gone").exists()
    plain = host.root / "plain"
    plain.write_text("a file")
    done = host.run("store", "init", "--store", f"file://{plain}", code=None)
    assert done.code in (1, 2, 13) and str(plain) in done.err, done.err
    other = host.root / "other"
    other.mkdir()
    (other / "elide.toml").write_text("format = [")
    done = host.run("volume", "create", "b", "--size", "1M", "--store", f"file://{other}", code=4)
    assert "elide.toml" in done.err, done.err
    (other / "elide.toml").write_text("")
    host.run("volume", "create", "b", "--size", "1M", "--store", f"file://{other}", code=4)


@case
def places(host):
    """data directories, sockets and images that cannot be used are named"""
    host.run("volume", "create", "a", "--size", "1M")
    plain = host.root / "plain"
    plain.write_text("a file")
    for place in (plain, plain / "below", Path("/proc/elide"), Path("/dev/null")):
        done = host.run("volume", "list", env={"ELIDE_DATA_DIR": str(place)}, code=None)
        assert done.code in (1, 10) and str(place) in done.err, f"{place}: {done.code} {done.err}"
    done = host.run("serve", "a", "--nbd", f"unix:{plain}/s", code=1)
    assert f"{plain}/s" in done.err, done.err
    done = host.run("serve", "a", "--nbd", f"unix:/tmp/{'x' * 120}", code=None)
    assert done.code in (1, 2) and "xxx" in done.err, done.err
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    done = host.run("serve", "a", "--nbd", f"tcp:127.0.0.1:{taken.getsockname()[1]}", code=1)
    assert str(taken.getsockname()[1]) in done.err, done.err
    says(host, 2, "ext4", "volume", "import", "b", f"ext4:{plain}")
    says(host, 2, "512", "volume", "import", "b", f"raw:{plain}")
    assert host.run("volume", "import", "b", f"raw:{host.root}", code=None).code in (1, 2)
    (host.root / "empty").write_bytes(b"")
    says(host, 2, "512", "volume", "import", "b", f"raw:{host.root}/empty")
    assert [v["name"] for v in host.run("volume", "list", "--json").json["volumes"]] == ["a"]
    # In service twice.
    server = host.serve("a")
    says(host, 11, "in_use", "serve", "a", "--nbd", f"unix:{host.root}/second")
    says(host, 11, "in_use", "volume", "verify", "a")
    assert server.stop() == 0


@case
def damage(host):
    """keys, pages, checkpoints and journals that are damaged are named, code 4"""
    host.run("volume", "create", "a", "--size", "1M")
    volume = host.volume("a")
    server = host.serve("a")
    a = server.connect("a")
    a.pwrite(os.urandom(1 << 16), 0)
    a.shutdown()
    host.run("snapshot", "create", "a", "--label", "s")
    assert server.stop() == 0
    here, there = host.root / "host" / "volumes" / volume, host.root / "store" / "volumes" / volume

    def flipped(path, at=None):
        data = bytearray(path.read_bytes())
        data[len(data) // 2 if at is None else at] ^= 0x40
        return bytes(data)

    def damaged(path, bytes, words, *arguments, **more):
        whole = path.read_bytes()
        path.write_bytes(bytes)
        try:
            done = host.run(*arguments, code=None, **more)
            text = done.err + done.out
            assert done.code == 4, f"{path.name}, {arguments}: {done.code}: {text}"
            for word in words.split():
                assert word in text, f"{path.name}, {arguments} does not say '{word}': {text}"
        finally:
            path.write_bytes(whole)

    damaged(here / "key", b"nonsense", "key", "serve", "a", "--nbd", f"unix:{host.root}/x")
    for page in sorted((there / "journal").iterdir()):
        damaged(page, flipped(page), page.name[-2:], "events", "verify", volume, "--from-store", data="other")
        damaged(page, page.read_bytes()[:300], "", "inspect", "page", page)
        damaged(page, b"", "", "events", "verify", volume, "--from-store", data="other")
    first = there / "journal" / "00000000"
    damaged(first, flipped(first, 0), "", "inspect", "page", first)
    newest = sorted((there / "maps").iterdir())[-1]
    damaged(newest, flipped(newest), newest.name[:16], "serve", volume, "--nbd", f"unix:{host.root}/x", data="other")
    damaged(newest, flipped(newest), "", "inspect", "map", newest)
    damaged(newest, newest.read_bytes()[:100], "", "inspect", "map", newest)
    damaged(there / "volume.toml", b"nonsense", "volume.toml", "serve", volume, "--nbd", f"unix:{host.root}/x", data="other")
    # A hint may lie.
    (there / "head.toml").write_bytes(b"nonsense")
    host.run("volume", "verify", volume, data="other")
    (there / "head.toml").unlink()
    host.run("volume", "verify", volume, data="other")
    blobs = sorted((here / "blobs").iterdir())
    damaged(blobs[0], flipped(blobs[0]), "", "events", "verify", "a")
    # A checkpoint on this host is a projection: without it the journal tells the same.
    for checkpoint in (here / "maps").iterdir():
        checkpoint.write_bytes(flipped(checkpoint))
    host.run("volume", "verify", "a")
    host.run("events", "replay", "a", "--verify")


finish()

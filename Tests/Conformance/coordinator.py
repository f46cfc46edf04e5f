"""Coordinators: real processes, one store, several data directories. usage: coordinator.py PATH/elide"""
import json, os, re, signal, socket, subprocess, time
from pathlib import Path
import nbd, yaml
import cases
from coordinators import Connection, case, create, start
from harness import ELIDE, Host, eventually


@case("a")
def _(a):
    """a name is made, served, stopped and released; each twice is once"""
    create(a)
    assert start(a)["phase"] == "live"
    assert start(a)["outcome"] == "done"
    h = a.connect("vm")
    h.pwrite(b"x" * 4096, 8192)
    h.flush()
    h.shutdown()
    a.idle("vm")
    assert a.do("stop", "vm", force=False, release=False)["phase"] == "stopped"
    assert a.served("vm") is None
    released = a.do("release", "vm")
    assert released["phase"] == "released" and released["cut"]["seq"] > 0
    assert a.do("release", "vm")["outcome"] == "done"
    kinds = [json.loads(l)["kind"] for l in a.ask("GET", "/v1/names/vm/events")[1].splitlines()]
    assert kinds == ["created", "started", "stopped", "released"], kinds


@case("a")
def _(a):
    """a volume with a client is stopped by force only"""
    create(a)
    start(a)
    h = a.connect("vm")
    refused = a.do("stop", "vm", expect=503, force=False, release=False)
    assert "client" in refused["message"] and refused["code"] == 75, refused
    h.pwrite(b"y" * 4096, 0)
    assert a.do("stop", "vm", force=True, release=False)["phase"] == "stopped"
    start(a)
    h = a.connect("vm")
    assert h.pread(4096, 0) == b"y" * 4096
    h.shutdown()


@case("a")
def _(a):
    """guests see nothing of a coordinator that is killed, and the next one takes their processes over"""
    create(a)
    start(a)
    before = a.served("vm")
    h = a.connect("vm")
    for k in range(6):
        a.kill() if k % 2 == 0 else a.stop()
        for i in range(50):
            h.pwrite(bytes([k * 7 + i]) * 4096, i * 4096)
        h.flush()
        a.start()
        assert a.served("vm")["process"] == before["process"] and a.served("vm")["phase"] == "running"
    eventually(lambda: a.ask("GET", "/v1/names/vm?fresh=1")[1]["incarnation"] == a.status()["incarnation"], "adopted")
    assert h.pread(4096, 0) == bytes([35]) * 4096
    # Still its own to serve, after several entries of other incarnations.
    h.pwrite(b"z" * 4096, 0)
    h.flush()
    h.shutdown()
    a.idle("vm")
    assert a.do("stop", "vm", force=False, release=True)["phase"] == "released"


@case("a")
def _(a):
    """a volume's process that is killed comes back, with all that was acknowledged"""
    create(a)
    start(a)
    for k in range(3):
        h = a.connect("vm")
        h.pwrite(bytes([k + 1]) * 4096, k * 4096)
        h.flush()
        process = a.served("vm")["process"]
        os.kill(process, signal.SIGKILL)
        eventually(lambda: a.pid("vm") not in (None, process), "restarted")
        h = a.connect("vm")
        for i in range(k + 1):
            assert h.pread(4096, i * 4096) == bytes([i + 1]) * 4096
        h.shutdown()
    assert a.served("vm")["restarts"] == 3


@case("a")
def _(a):
    """a process that dies while no coordinator runs is started again by the next one"""
    create(a)
    start(a)
    h = a.connect("vm")
    h.pwrite(b"q" * 4096, 0)
    h.flush()
    process = a.served("vm")["process"]
    a.kill()
    os.kill(process, signal.SIGKILL)
    a.start()
    eventually(lambda: a.pid("vm"), "started again")
    assert a.connect("vm").pread(4096, 0) == b"q" * 4096


@case("a")
def _(a):
    """a process that was taken over and dies is started again"""
    create(a)
    start(a)
    a.kill()
    a.start()
    process = a.pid("vm")
    os.kill(process, signal.SIGKILL)
    eventually(lambda: a.pid("vm") not in (None, process), "started again")


@case("a")
def _(a):
    """one coordinator for a data directory"""
    p = subprocess.run([ELIDE, "coordinator", "run"], env=a.host.environment("a"), stderr=subprocess.PIPE, text=True, timeout=60)
    assert p.returncode == 11 and "another coordinator" in p.stderr, p.stderr


@case("a", "b")
def _(a, b):
    """what is live on one host is not another's to start, stop, release or claim"""
    create(a)
    start(a)
    for kind, arguments in [("start", {"claim": False}), ("start", {"claim": True}), ("stop", {"force": True, "release": False}),
                            ("release", {}), ("purge", {})]:
        refused = b.do(kind, "vm", expect=409, **arguments)
        assert refused["code"] == 11, (kind, refused)
    assert a.served("vm")["phase"] == "running"


@case("a")
def _(a):
    """nothing that is sent ends the coordinator, and it says what is wrong"""
    def raw(data, limit=1 << 20):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(30)
        s.connect(str(a.root / "run/control.sock"))
        out = b""
        try:
            s.sendall(data)
            while len(out) < limit and (part := s.recv(65536)):
                out += part
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            s.close()
        return out
    assert raw(b"NONSENSE\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert raw(b"PUT /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert raw(b"POST /v1/commands HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert raw(b"POST /v1/commands HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").startswith(b"HTTP/1.1 501")
    answer = raw(b"GET /" + b"a" * (1 << 20))
    assert answer.startswith(b"HTTP/1.1 431"), answer
    for body in [b"", b"{", b"[]", b'{"command":{}}', b'{"command":{"create":{"name":"x"},"stop":{}}}',
                 b'{"command":{"nonsense":{}}}', b"[" * 200_000, b"\xff" * 1000,
                 b'{"command":{"create":{"name":"../x","size":1048576}}}',
                 b'{"command":{"create":{"name":"x","size":-1}}}', b'{"command":{"create":{"name":"x","size":1e30}}}']:
        status, answer = a.ask("POST", "/v1/commands", body)
        assert status == 400 and answer["code"] == 2 and answer["message"], (body[:60], status, answer)
    for path in ["/v1/names/nobody", "/v1/names/nobody/events", "/v1/volumes/01ARZ3NDEKTSV4RRFFQ69G5FAV/status"]:
        assert a.ask("GET", path)[0] == 404, path
    for path in ["/v1/names/%2e%2e", "/v1/names/a%2fb", "/v1/volumes/x/status", "/v1/names/x/events?last=x"]:
        assert a.ask("GET", path)[0] == 400, path
    # Clients that say nothing take places, not the coordinator.
    idle = [socket.socket(socket.AF_UNIX) for _ in range(63)]
    for s in idle:
        s.connect(str(a.root / "run/control.sock"))
    assert a.ask("GET", "/v1/status")[0] in (200, 503)
    for s in idle:
        s.close()
    eventually(a.answers, "it answers when they are gone")
    peak = next(l for l in Path(f"/proc/{a.process.pid}/status").read_text().splitlines() if l.startswith("VmHWM"))
    assert int(peak.split()[1]) < 400 << 10, peak


@case("a")
def _(a):
    """commands stream their progress, logs are followed, and metrics are what Prometheus reads"""
    lined = {"Accept": "application/x-ndjson"}
    lines = a.ask("POST", "/v1/commands", {"command": {"create": {"name": "vm", "size": 1 << 20}}}, lined)[1]
    last = json.loads(lines.splitlines()[-1])
    assert last["report"]["phase"] == "stopped", last
    refused = a.ask("POST", "/v1/commands", {"command": {"release": {"name": "none"}}}, lined)[1]
    assert json.loads(refused.splitlines()[-1])["error"]["code"] == 10, refused
    c = Connection(a.root / "run/control.sock")
    c.request("GET", "/v1/names/vm/events?follow=1")
    r = c.getresponse()
    assert json.loads(r.readline())["kind"] == "created"
    start(a)
    assert json.loads(r.readline())["kind"] == "started"
    c.close()
    status, text = a.ask("GET", "/metrics")
    assert status == 200
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in seen, f"{name} comes twice"
            seen.add(name)
        elif not line.startswith("#"):
            name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
            assert name in seen, line
            float(value)
    assert {"elide_volume_exposure_seconds", "elide_volume_unsent_bytes", "elide_volume_stage_total", "elide_names"} <= seen, seen
    assert 'elide_names{phase="live"} 1' in text


@case("a")
def _(a):
    """the same request has the same answer"""
    first = a.do("create", "vm", size=1 << 20, context={"request": "r1"})
    again = a.do("create", "vm", size=1 << 20, context={"request": "r1"})
    assert first["seq"] == again["seq"] == 0 and first["volume"] == again["volume"], (first, again)
    dry = a.do("start", "vm", claim=False, context={"dryRun": True, "reason": "to see"})
    assert dry["outcome"] == "planned" and 'kind = "started"' in dry["entry"] and a.served("vm") is None
    note = a.do("note", "vm", text="hello", context={"reason": "why"})
    entry = json.loads(a.ask("GET", f"/v1/names/vm/events?after={note['seq'] - 1}")[1].splitlines()[-1])
    assert entry["operator"] == f"uid:{os.getuid()}" and entry["reason"] == "why", entry


@case("a")
def _(a):
    """docs/openapi.yaml has the routes and the fields that are served, and no others"""
    here = Path(__file__).resolve().parents[2]
    document = yaml.safe_load((here / "docs/openapi.yaml").read_text())
    source = (here / "Sources/elide/Coordinator/CoordinatorAPI.swift").read_text()
    routes = set(re.findall(r'\("(GET|POST)", "(/[^"]*)", \.(?:read|act)\)', source))
    assert routes == {(m.upper(), p) for p, methods in document["paths"].items() for m in methods}, routes
    schemas = document["components"]["schemas"]

    def check(schema, value, where):
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
        kind = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}[schema["type"]]
        assert isinstance(value, kind), (where, value)
        if kind is list:
            for v in value:
                check(schema["items"], v, where)
        if "enum" in schema:
            assert value in schema["enum"], (where, value)
        if kind is dict and "properties" in schema:
            assert set(value) <= set(schema["properties"]), (where, set(value) - set(schema["properties"]))
            assert set(schema.get("required", [])) <= set(value), (where, set(schema["required"]) - set(value))
            for k, v in value.items():
                check(schema["properties"][k], v, f"{where}.{k}")

    def served(method, path, template, body=None, status="200"):
        got, answer = a.ask(method, path, body)
        assert str(got) == status, (path, got, answer)
        response = document["paths"][template][method.lower()]["responses"][status]
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        content = response["content"]
        if "application/json" in content:
            check(content["application/json"]["schema"], answer, path)
    create(a)
    for kind, sample in [("note", {"text": "x"}), ("start", {"claim": False})]:
        command = {"command": {kind: {"name": "vm"} | sample}}
        check(schemas["Command"], command, "command")
        served("POST", "/v1/commands", "/v1/commands", command)
    served("POST", "/v1/commands", "/v1/commands", {"command": {}}, "400")
    served("POST", "/v1/commands", "/v1/commands", {"command": {"release": {"name": "nobody"}}}, "404")
    served("GET", "/v1/status", "/v1/status")
    served("GET", "/v1/names", "/v1/names")
    served("GET", "/v1/names/vm", "/v1/names/{name}")
    served("GET", "/v1/names/nobody", "/v1/names/{name}", status="404")
    served("GET", "/v1/names/vm/events", "/v1/names/{name}/events")
    served("GET", f"/v1/volumes/{a.served('vm')['volume']}/status", "/v1/volumes/{volume}/status")
    served("GET", "/metrics", "/metrics")
    # Every command that the document has is one that the coordinator knows.
    for kind, schema in schemas["Command"]["properties"]["command"]["properties"].items():
        sample = {"string": "-", "integer": 0, "boolean": False}
        arguments = {k: sample[v["type"]] for k, v in schema["properties"].items()}
        status, answer = a.ask("POST", "/v1/commands", {"command": {kind: arguments}})
        assert status == 400 and "the name '-'" in answer["message"], (kind, status, answer)


if os.getuid() == 0:
    @case("a")
    def _(a):
        """who may act is told by who asks"""
        os.chmod(a.host.root, 0o755)
        for directory in [a.root, a.root / "run"]:
            os.chmod(directory, 0o755)
        code = f"""
import socket
s = socket.socket(socket.AF_UNIX)
s.connect({str(a.root / 'run/control.sock')!r})
s.sendall(b'POST /v1/commands HTTP/1.1\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{{}}')
print(s.recv(4096).decode().split()[1])
s = socket.socket(socket.AF_UNIX)
s.connect({str(a.root / 'run/control.sock')!r})
s.sendall(b'GET /v1/status HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n')
print(s.recv(4096).decode().split()[1])
"""
        def ask():
            p = subprocess.run(["/usr/bin/python3", "-c", code], user=65534, group=65534, extra_groups=[],
                               capture_output=True, text=True)
            assert p.returncode == 0, p.stderr
            return p.stdout.split()
        assert ask() == ["403", "403"], ask()
        a.stop()
        a.start("--readers", "all")
        assert ask() == ["403", "200"], ask()


@case("a", "b")
def _(a, b):
    """the command line goes through the coordinator where one runs, and says the same either way"""
    run = a.host.run
    run("volume", "create", "vm", "--size", "16M", data="a")
    report = run("volume", "start", "vm", "--json", data="a").json
    assert report["phase"] == "live" and a.served("vm")["phase"] == "running", report
    h = a.connect("vm")
    refused = run("volume", "stop", "vm", data="a", code=75)
    assert "client" in refused.err, refused.err
    assert run("volume", "release", "vm", data="b", code=11).err.count("\n") == 1
    h.shutdown()
    a.idle("vm")
    by_coordinator = run("volume", "stop", "vm", "--json", data="a").json
    a.stop()
    by_itself = run("volume", "stop", "vm", "--json", data="a").json
    assert set(by_coordinator) - {"seq", "entryID"} == set(by_itself) - {"seq", "entryID"}, (by_coordinator, by_itself)
    refused = run("volume", "start", "vm", data="a", code=None)
    assert refused.code == 2 and "coordinator" in refused.err, (refused.code, refused.err)
    assert run("events", "log", "vm", "--json", data="a").out.count('"started"') == 1
    before = time.monotonic()
    run("status", data="a")
    assert time.monotonic() - before < 5


class Notify:
    """What systemd would hear."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)


@case()
def _():
    """systemd is told when it is ready, and may hand the socket over"""
    host = Host()
    try:
        notify = Notify(host.root / "notify")
        (host.root / "host/run").mkdir(parents=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(host.root / "host/run/control.sock"))
        listening.listen(16)
        # Descriptor 3 in a child that says it is meant for it.
        os.set_inheritable(listening.fileno(), True)
        script = f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" coordinator run'
        p = subprocess.Popen(["/bin/sh", "-c", script, ELIDE], pass_fds=[listening.fileno()],
                             stderr=subprocess.DEVNULL, env=host.environment() | {"NOTIFY_SOCKET": str(host.root / "notify")})
        assert b"READY=1" in notify.socket.recv(4096)
        c = Connection(host.root / "host/run/control.sock")
        c.request("GET", "/v1/status")
        assert c.getresponse().status == 200
        p.terminate()
        assert b"STOPPING=1" in notify.socket.recv(4096)
        assert p.wait() == 0
    finally:
        host.close()


cases.finish()

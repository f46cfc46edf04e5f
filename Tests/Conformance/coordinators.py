"""Coordinators for conformance tests: real processes with data directories of their own, on one store."""
import http.client, json, os, signal, socket, subprocess
import nbd
import cases
from harness import ELIDE, Host, eventually

class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("elide", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Coordinator:
    """A data directory with its coordinator, which may die and come back."""

    def __init__(self, host, data):
        self.host, self.data = host, data
        self.root = host.root / data
        self.log = host.root / f"{data}.log"
        self.start()

    def start(self, *arguments):
        self.process = subprocess.Popen(
            [ELIDE, "coordinator", "run", *arguments], stderr=self.log.open("a"), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env=self.host.environment(self.data))
        eventually(self.answers, "the coordinator answers")

    def answers(self):
        assert self.process.poll() is None, f"the coordinator ended: {self.log.read_text()}"
        try:
            return self.ask("GET", "/v1/status")[0] == 200
        except TimeoutError:
            raise
        except OSError:
            return False

    def ask(self, method, path, body=None, headers={}, timeout=100):
        c = Connection(self.root / "run/control.sock", timeout)
        try:
            c.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers)
            r = c.getresponse()
            data = r.read()
            return r.status, json.loads(data) if r.headers["Content-Type"] == "application/json" else data.decode()
        finally:
            c.close()

    def do(self, kind, name, expect=200, context=None, **arguments):
        command = {"command": {kind: {"name": name} | arguments}, "context": context or {}}
        status, answer = self.ask("POST", "/v1/commands", command)
        assert status == expect, f"{kind} {name} on {self.data}: {status} {answer}"
        return answer

    def events(self, name):
        return [json.loads(line) for line in self.ask("GET", f"/v1/names/{name}/events")[1].splitlines()]

    def volume(self, volume, method, path):
        """Asks the process that serves a volume."""
        c = Connection(self.root / f"run/{volume}.ctl")
        c.request(method, path)
        r = c.getresponse()
        assert r.status == 200, r.read()
        return json.loads(r.read())

    def status(self):
        return self.ask("GET", "/v1/status")[1]

    def served(self, name):
        return next((v for v in self.status()["volumes"] if v["name"] == name), None)

    def pid(self, name):
        """The process of a volume that clients can connect to."""
        v = self.served(name) or {}
        return v.get("process") if v.get("phase") == "running" else None

    def connect(self, name):
        h = nbd.NBD()
        h.set_export_name(name)
        h.connect_unix(self.served(name)["socket"])
        return h

    def idle(self, name):
        """Waits until the server has seen the clients go."""
        eventually(lambda: self.served(name)["status"]["clients"] == 0, "no clients")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """As systemd does it; volumes stay in service."""
        self.process.terminate()
        return self.process.wait()

    def end(self):
        for v in (self.status()["volumes"] if self.process.poll() is None else []):
            if v.get("process"):
                try:
                    os.kill(v["process"], signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.process.poll() is None:
            self.kill()
        # Those that a killed coordinator left.
        for socket_file in (self.root / "run").glob("*.ctl"):
            try:
                c = Connection(socket_file, 5)
                c.request("GET", "/v1/status")
                os.kill(json.loads(c.getresponse().read())["process"], signal.SIGKILL)
            except (OSError, KeyError, TypeError, ValueError):
                pass


def on_s3():
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/test-store.sh")
    return subprocess.run([script, "coordinators", "/"], capture_output=True, text=True, check=True).stdout.strip()


def case(*hosts, deadline=180):
    """Runs a case at once, with a coordinator for each of the data directories."""
    def run(function):
        host = Host()
        # The store of ELIDE_TEST_S3, where scripts/rgw.sh has started one.
        host.elsewhere = {"ELIDE_STORE": on_s3()} if "ELIDE_TEST_S3" in os.environ else {}
        coordinators = []

        def body():
            for data in hosts:
                coordinators.append(Coordinator(host, data))
            function(*coordinators)
        body.__doc__ = function.__doc__
        try:
            cases.attempt(body, deadline=deadline)
            if cases.failed:
                for c in coordinators:
                    print("  #", c.data, "\n  # ".join(c.log.read_text().splitlines()[-12:]), flush=True)
        finally:
            for c in coordinators:
                c.end()
            host.close()
    return run


def create(a, name="vm", size=16 << 20):
    a.do("create", name, size=size)


def start(a, name="vm", **arguments):
    return a.do("start", name, claim=False, **arguments)

"""For the conformance tests of the command line: the elide binary, data directories, servers, and NBD connections."""
import json, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import nbd
from cases import attempt


def case(function):
    """Runs a case at once, in a data directory of its own."""
    host = Host()
    try:
        attempt(function, host, deadline=120)
    finally:
        host.close()


class Done:
    """What a command said."""

    def __init__(self, process, out, err):
        self.code, self.out, self.err = process.returncode, out, err

    @property
    def json(self):
        return json.loads(self.out)


class Host:
    """A data directory and a store, and what runs on them."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="elide-cli-", dir="/tmp"))
        self.servers = []
        # In place of the store beside the data directories; and what one of these has for itself.
        self.elsewhere, self.own = {}, {}

    def environment(self, data="host"):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ELIDE_")}
        return clean | {"ELIDE_DATA_DIR": str(self.root / data), "ELIDE_STORE": f"file://{self.root}/store",
                        "SWIFT_BACKTRACE": "enable=no"} | self.elsewhere | self.own.get(data, {})

    def run(self, *arguments, data="host", code=0, env=None):
        p = subprocess.Popen([ELIDE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             stdin=subprocess.DEVNULL, env=self.environment(data) | (env or {}))
        done = Done(p, *p.communicate())
        if code is not None:
            assert done.code == code, f"elide {' '.join(map(str, arguments))}: exit code {done.code}, not {code}: {done.err}{done.out}"
        return done

    def volume(self, name):
        return next(v["volume"] for v in self.run("volume", "list", "--json").json["volumes"] if v["name"] == name)

    def serve(self, *targets, data="host"):
        server = Server(self, targets, data)
        self.servers.append(server)
        return server

    def close(self):
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.root, ignore_errors=True)


class Server:
    def __init__(self, host, targets, data):
        self.socket = host.root / f"nbd{len(host.servers)}.sock"
        self.log = host.root / f"serve{len(host.servers)}.log"
        self.process = subprocess.Popen([ELIDE, "serve", *targets, "--nbd", f"unix:{self.socket}"], stderr=self.log.open("w"),
                                        stdin=subprocess.DEVNULL, env=host.environment(data))
        while not (self.log.exists() and "serving" in self.log.read_text()):
            assert self.process.poll() is None, f"serve ended: {self.log.read_text()}"
            time.sleep(0.02)

    def connect(self, export):
        h = nbd.NBD()
        h.set_export_name(export)
        h.add_meta_context("base:allocation")
        h.connect_unix(str(self.socket))
        return h

    def threads(self, name):
        """How many threads of that name the server has."""
        count = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                count += (task / "comm").read_text().strip() == name
            except OSError:
                pass
        return count

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.terminate()
        return self.process.wait()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def eventually(condition, what):
    """Waits until it holds; the case's deadline ends it."""
    while not condition():
        try:
            time.sleep(0.02)
        except TimeoutError:
            raise TimeoutError(what) from None


ELIDE = os.path.realpath(sys.argv[1])

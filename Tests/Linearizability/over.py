#!/usr/bin/python3
"""usage: over.py PATH/elide [--hosts 1] [--rounds 3] [--operations 3000]

A volume under load by recorders while its server is killed and started again, and while its name is stopped, released and
claimed: by the same host, or with --hosts N by one after the other, each with a data directory of its own. What the recorders saw
has to be linearizable as one device: nothing that was acknowledged may be missing, and nothing come back.
"""
import argparse, os, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import nbd
from check import read
from histories import check

HERE = Path(__file__).resolve().parent


class Run:
    def __init__(self, options):
        self.options = options
        self.root = Path(tempfile.mkdtemp(prefix="elide-linear-", dir="/tmp"))
        self.socket, self.history = self.root / "s", self.root / "history.jsonl"
        self.server = self.recorder = None

    def environment(self, host):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ELIDE_")}
        return clean | {"ELIDE_DATA_DIR": str(self.root / f"host-{host}"), "ELIDE_STORE": f"file://{self.root}/store",
                        "SWIFT_BACKTRACE": "enable=no"}

    def elide(self, host, *arguments):
        subprocess.run([self.options.elide, *arguments], check=True, stdout=subprocess.DEVNULL, env=self.environment(host))

    def serve(self, host, *more):
        """Waits until it accepts connections: a socket file may be that of a killed server."""
        log = open(self.root / "log", "ab")
        self.server = subprocess.Popen([self.options.elide, "serve", "vm", "--nbd", f"unix:{self.socket}", *more],
                                       stdout=log, stderr=log, env=self.environment(host))
        for _ in range(600):
            if self.server.poll() is not None:
                sys.exit(f"the server ended:\n{(self.root / 'log').read_text()}")
            try:
                handle = nbd.NBD()
                handle.connect_uri(self.uri)
                handle.shutdown()
                return
            except nbd.Error:
                time.sleep(0.05)
        sys.exit("the server does not answer")

    @property
    def uri(self):
        return f"nbd+unix:///vm?socket={self.socket}"

    def record(self):
        self.recorder = subprocess.Popen([HERE / "record.py", "--uri", self.uri, "--out", self.history, "--host", "vm", "--retry",
                                          "--seconds", "3600"])

    def load(self):
        """Until the recorders have done so much more."""
        wanted = self.recorded() + self.options.operations
        deadline = time.monotonic() + 120
        while self.recorded() < wanted:
            if time.monotonic() > deadline or self.recorder.poll() is not None:
                sys.exit(f"the recorders stand still:\n{(self.root / 'log').read_text()}")
            time.sleep(0.02)

    def recorded(self):
        if not self.history.exists():
            return 0
        with open(self.history, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))

    def go(self):
        self.elide(0, "volume", "create", "vm", "--size", "1M")
        self.serve(0)
        self.record()
        owner = 0
        for n in range(self.options.rounds):
            self.load()
            self.server.kill()
            self.server.wait()
            self.serve(owner)
            self.load()
            # A server that is told to end drains its clients' requests and publishes everything; then the name may go.
            self.server.send_signal(signal.SIGINT)
            if self.server.wait(120) != 0:
                sys.exit(f"the server ended with {self.server.returncode}:\n{(self.root / 'log').read_text()}")
            self.elide(owner, "volume", "release", "vm")
            owner = (n + 1) % self.options.hosts
            self.serve(owner, "--claim")
        self.load()
        self.recorder.send_signal(signal.SIGTERM)
        self.recorder.wait(60)
        verdict = check(read([self.history]))
        print(f"{self.options.rounds} kills, {self.options.rounds} hand-overs between {self.options.hosts} hosts: {verdict}")
        return 4 if verdict.faults or verdict.operations < 100 else 0

    def close(self):
        for process in (self.recorder, self.server):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("elide")
    p.add_argument("--hosts", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--operations", type=int, default=3000)
    run = Run(p.parse_args())
    try:
        code = run.go()
    finally:
        run.close()
    sys.exit(code)


if __name__ == "__main__":
    main()

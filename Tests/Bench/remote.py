#!/usr/bin/env python3
"""How fast a second host reads what only a store far away has: cold sequential reads, and the first read after opening.

    remote.py [--elide FILE] [--size MiB] [--profile near|cloud] [--link MB/s …] [--rounds N] [--dir DIR]

A volume of bytes that do not compress is imported into a store in a directory. `store_proxy.py` shows that directory as a bucket,
with the latency of the profile, 80 MB/s a stream, and a link that all streams share (`--link`, several one after the other; 0: as
fast as this machine goes). The peer in the same run is curl, which fetches the same bodies through the same proxy, 16 at a time,
and keeps nothing: that is what the store gives. Clients of Elide: fio, 256 KiB at depth 16 and 128 KiB at depth 1, and nbdcopy,
which reads two ranges at once. Each begins with an empty cache. The ratio is plain bytes read to the peer's, per second.
"""
import argparse, json, os, shutil, signal, statistics, subprocess, sys, tempfile, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


class Proxy:
    def __init__(self, directory, profile, work):
        self.file = os.path.join(work, "port")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "store_proxy.py"), directory, "--profile", profile, "--port-file", self.file],
            stdout=subprocess.DEVNULL)
        wait(lambda: os.path.exists(self.file) and open(self.file).read().endswith("\n"), "the proxy does not start")
        self.port = int(open(self.file).read())

    def ask(self, what):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/{what}") as answer:
            return json.load(answer)

    def requests(self):
        return sum(self.ask("stats")["requests"].values())

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wait(condition, complaint, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(complaint)
        time.sleep(0.01)


class Host:
    """A second host: a data directory of its own, empty, and a process that serves the volume from the bucket."""

    def __init__(self, options, volume, proxy, work):
        self.data = os.path.join(work, "b")
        self.socket = os.path.join(work, "nbd.sock")
        self.proxy = proxy
        store = f"s3://bench?endpoint=http://127.0.0.1:{proxy.port}&path-style=1&region=us-east-1"
        environment = {**os.environ, **CREDENTIALS, "ELIDE_DATA_DIR": self.data, "ELIDE_STORE": store}
        self.before, begun = proxy.requests(), time.monotonic()
        self.process = subprocess.Popen(
            [options.elide, "serve", volume, "--nbd", f"unix:{self.socket}", *options.serve.split()],
            env=environment, stderr=subprocess.DEVNULL)
        wait(lambda: os.path.exists(self.socket), "the second host does not serve")
        self.opening = time.monotonic() - begun
        self.uri = f"nbd+unix:///{volume}?socket={self.socket}"
        self.requests = proxy.requests() - self.before

    def seconds_of_cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)
        if os.path.exists(self.socket):
            os.unlink(self.socket)


def peer(proxy, bodies, work):
    """Bytes per second that curl gets."""
    config = os.path.join(work, "curl")
    with open(config, "w") as f:
        for body in bodies:
            f.write(f'url = "http://127.0.0.1:{proxy.port}/bench/{body}"\noutput = "/dev/null"\n')
    # A range of all: the proxy need not make an ETag of the whole then, as for Elide's reads.
    begun, sent = time.monotonic(), proxy.ask("stats")["bytes_sent"]
    subprocess.run(["curl", "-sS", "--no-progress-meter", "-r", "0-", "-Z", "--parallel-max", "16", "--parallel-immediate", "-K", config], check=True)
    return (proxy.ask("stats")["bytes_sent"] - sent) / (time.monotonic() - begun)


def fio(host, size, block, depth):
    job = ["fio", "--name=r", "--ioengine=nbd", f"--uri={host.uri}", "--rw=read", f"--bs={block}", f"--iodepth={depth}",
           f"--size={size}", "--output-format=json"]
    said = subprocess.run(job, check=True, capture_output=True, text=True).stdout
    return json.loads(said[said.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def nbdcopy(host, size):
    begun = time.monotonic()
    subprocess.run(["nbdcopy", "--no-extents", host.uri, "null:"], check=True)
    return size / (time.monotonic() - begun)


def first_read(host):
    """Seconds and requests from connecting to the first 4 KiB."""
    before, begun = host.proxy.requests(), time.monotonic()
    code = "import time; t = time.monotonic(); h.pread(4096, 1 << 20); print(time.monotonic() - t)"
    seconds = float(subprocess.run(["/usr/bin/python3", "-m", "nbd", "-u", host.uri, "-c", code], check=True, capture_output=True, text=True).stdout)
    time.sleep(0.3)
    return seconds, host.proxy.requests() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elide", default=".build/release/elide")
    parser.add_argument("--size", type=int, default=768, help="MiB")
    parser.add_argument("--profile", choices=("near", "cloud"), default="near")
    parser.add_argument("--link", type=float, nargs="+", default=[125, 250, 0], help="MB/s; 0: no limit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="fio-16,fio-1,nbdcopy")
    parser.add_argument("--serve", default="", help="more options for `elide serve`")
    parser.add_argument("--dir", default="/var/tmp")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="elide-remote-", dir=options.dir)
    size = options.size << 20
    proxy = host = None
    try:
        image = os.path.join(work, "image")
        with open(image, "wb") as f:
            for _ in range(options.size):
                f.write(os.urandom(1 << 20))
        store = os.path.join(work, "store")
        environment = {**os.environ, "ELIDE_DATA_DIR": os.path.join(work, "a"), "ELIDE_STORE": f"file://{store}"}
        subprocess.run([options.elide, "volume", "import", "image", f"raw:{image}"], env=environment, check=True, capture_output=True)
        listed = subprocess.run([options.elide, "volume", "list", "--json"], env=environment, check=True, capture_output=True)
        volume = json.loads(listed.stdout)["volumes"][0]["volume"]
        os.unlink(image)
        shutil.rmtree(os.path.join(work, "a"))
        folder = f"volumes/{volume}/segments"
        bodies = [f"{folder}/{name}" for name in sorted(os.listdir(os.path.join(store, folder)))]
        proxy = Proxy(store, options.profile, work)
        host = Host(options, volume, proxy, work)
        seconds, requests = first_read(host)
        print(f"{options.profile}: open {host.requests} requests, {host.opening * 1000:.0f} ms; "
              f"first 4 KiB {seconds * 1000:.0f} ms, {requests} requests")
        host.stop()
        clients = {"fio-16": lambda h: fio(h, size, "256k", 16), "fio-1": lambda h: fio(h, size, "128k", 1),
                   "nbdcopy": lambda h: nbdcopy(h, size)}
        print("link MB/s | client | MB/s: min med max | curl MB/s | ratio of medians | CPU seconds per GiB | requests")
        for link in options.link:
            proxy.ask(f"set?link={link * 1e6}")
            peers, mine = [], {name: [] for name in options.clients.split(",")}
            cpu, requests = {}, {}
            for _ in range(options.rounds):
                peers.append(peer(proxy, bodies, work))
                for name in mine:
                    host = Host(options, volume, proxy, work)
                    used, before = host.seconds_of_cpu(), proxy.requests()
                    mine[name].append(clients[name](host))
                    cpu[name] = (host.seconds_of_cpu() - used) / (size / (1 << 30))
                    requests[name] = proxy.requests() - before
                    host.stop()
                    host = None
            given = statistics.median(peers)
            for name, rates in mine.items():
                middle = statistics.median(rates)
                figures = " ".join(f"{r / 1e6:.0f}" for r in (min(rates), middle, max(rates)))
                print(f"{link or 'none'} | {name} | {figures} | {given / 1e6:.0f} | {middle / given:.2f} | {cpu[name]:.2f} | "
                      f"{requests[name]}", flush=True)
    finally:
        if host:
            host.process.kill()
        if proxy:
            proxy.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""usage: allocations.py SOCKET-PLACEHOLDER-COMMAND…

Counts the heap allocations per request in a steady state, on the thread that serves (THREAD= in the environment names another
than elide-nbd). There must be none, but for a few with each 32 MiB written: a write-ahead file is begun. What other threads
allocate meanwhile (sealing, uploads) is printed beside it. In the command, {socket} and {size} stand for the Unix socket to
listen on and the bytes of the export "disk" (EXPORT= in the environment for another).
"""
import os, signal, struct, subprocess, sys, tempfile, time
import nbd

here = os.path.dirname(os.path.abspath(__file__))
work = tempfile.mkdtemp(prefix="elide-allocations.")
library, counter, sock = (os.path.join(work, name) for name in ("malloccount.so", "count", "socket"))
subprocess.run([os.environ.get("CC", "clang"), "-O2", "-shared", "-fPIC", "-o", library, f"{here}/malloccount.c"], check=True)
command = [word.replace("{socket}", sock).replace("{size}", str(64 << 20)) for word in sys.argv[1:]]
thread = os.environ.get("THREAD", "elide-nbd")
server = subprocess.Popen(
    command, env=dict(os.environ, LD_PRELOAD=library, MALLOC_COUNT_FILE=counter, MALLOC_COUNT_THREAD=thread))
signal.alarm(120)


def count():
    with open(counter, "rb") as f:
        return struct.unpack("QQ", f.read(16))


def burst(h, depth, start, size):
    """`depth` requests in flight at once, until all are done."""
    cookies = [start(h, i, size) for i in range(depth)]
    while cookies:
        cookies = [c for c in cookies if not h.aio_command_completed(c)]
        if cookies:
            h.poll(-1)


buffers = [nbd.Buffer.from_bytearray(bytearray(b"\1" * (256 << 10))) for _ in range(32)]
short = [nbd.Buffer.from_bytearray(bytearray(b"\1" * 4096)) for _ in range(32)]


def pick(i, size):
    return (short if size == 4096 else buffers)[i]


KINDS = {
    "reads of 4 KiB": (4096, lambda h, i, n: h.aio_pread(pick(i, n), i * n)),
    "writes of 4 KiB": (4096, lambda h, i, n: h.aio_pwrite(pick(i, n), i * n)),
    "reads of 256 KiB": (256 << 10, lambda h, i, n: h.aio_pread(pick(i, n), i * n)),
    "writes of 256 KiB": (256 << 10, lambda h, i, n: h.aio_pwrite(pick(i, n), i * n)),
    "zeroes": (4096, lambda h, i, n: h.aio_zero(n, i * n)),
    "flushes": (0, lambda h, i, n: h.aio_flush()),
    "block status": (1 << 20, lambda h, i, n: h.aio_block_status(n, i * n, lambda *_: 0)),
}

passed = failed = 0
try:
    for _ in range(200):
        if os.path.exists(sock):
            break
        time.sleep(0.05)
    for structured in (True, False):
        h = nbd.NBD()
        h.set_request_structured_replies(structured)
        h.add_meta_context("base:allocation")
        assert count()[0] > 100, "nothing is counted: was the library preloaded?"
        h.connect_uri(f"nbd+unix:///{os.environ.get('EXPORT', 'disk')}?socket={sock}")
        names = {open(f"/proc/{server.pid}/task/{t}/comm").read().strip() for t in os.listdir(f"/proc/{server.pid}/task")}
        assert thread in names, f"no thread is called {thread}: {names}"
        for name, (size, start) in KINDS.items():
            if name == "block status" and not structured:
                continue
            for depth in (1, 32):
                rounds = 2000 // depth
                for _ in range(rounds // 4):
                    burst(h, depth, start, size)
                before = count()
                for _ in range(rounds):
                    burst(h, depth, start, size)
                everywhere, made = (after - b for after, b in zip(count(), before))
                per = made / (rounds * depth)
                files = rounds * depth * size >> 25 if name.startswith("writes") else 0
                good = made <= 4 * files
                passed, failed = passed + good, failed + (not good)
                print("ok" if good else "not ok", f"- {name}, depth {depth}, {'structured' if structured else 'simple'}: "
                      f"{per:.3f} per request ({made}; elsewhere {everywhere - made})")
        h.shutdown()
finally:
    server.terminate()
    server.wait(20)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)

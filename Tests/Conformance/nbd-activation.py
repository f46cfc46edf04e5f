#!/usr/bin/python3
"""usage: nbd-activation.py PATH/elide

A server that is handed its sockets, as systemd does it: the volume "disk" of ELIDE_DATA_DIR on a Unix socket and on TCP; and the end
of a server with clients on it.
"""
import os, signal, socket, subprocess, sys, tempfile, time
import nbd
from cases import attempt, finish

ELIDE = sys.argv[1]


def start(sockets, *arguments, fds=None, pid=None):
    """elide serve disk, with the sockets as its descriptors from 3 on."""
    high = [os.dup(s.fileno() if hasattr(s, "fileno") else s) for s in sockets]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(high)]

    def prepare():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
        os.environ["LISTEN_PID"] = str(pid or os.getpid())
        os.environ["LISTEN_FDS"] = str(len(high) if fds is None else fds)
        os.execv(ELIDE, [ELIDE, "serve", "disk", *arguments])

    child = os.fork()
    if child == 0:
        out = os.open(work + "/log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        prepare()
    for fd in high:
        os.close(fd)
    return child


def stop_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stop(child, number=signal.SIGTERM):
    os.kill(child, number)
    return stop_code(child)


def listening(family, address):
    s = socket.socket(family)
    s.bind(address)
    s.listen(16)
    return s


def connect(unix=None, port=None):
    h = nbd.NBD()
    h.set_export_name("disk")
    if unix:
        h.connect_unix(unix)
    elif port:
        h.connect_tcp("127.0.0.1", str(port))
    return h


work = tempfile.mkdtemp(prefix="elide-activation.")
path = work + "/socket"
unix = listening(socket.AF_UNIX, path)
tcp = listening(socket.AF_INET, ("127.0.0.1", 0))
port = tcp.getsockname()[1]


@attempt
def two_sockets():
    """two sockets are handed over, and found without being asked for"""
    # A client that comes before the server waits in the queue.
    early = nbd.NBD()
    early.set_export_name("disk")
    early.aio_connect(path)
    child = start([unix, tcp])
    while early.aio_is_connecting():
        early.poll(1000)
    early.pwrite(b"early", 0)
    assert connect(port=port).pread(5, 0) == b"early"
    assert connect(unix=path).pread(5, 0) == b"early"
    early.shutdown()
    assert stop(child) == 0
    assert os.path.exists(path), "the socket file belongs to whoever made it"


@attempt
def again():
    """the next server gets the same sockets; --nbd systemd beside one of its own"""
    child = start([unix, tcp], "--nbd", "systemd", "--nbd", f"unix:{work}/own")
    assert connect(port=port).pread(5, 0) == b"early"
    assert connect(unix=path).pread(5, 0) == b"early"
    assert connect(unix=work + "/own").pread(5, 0) == b"early"
    assert stop(child) == 0
    assert not os.path.exists(work + "/own")


@attempt
def not_meant_for_it():
    """sockets of another process, none, too many, and what is no listening socket"""
    assert stop_code(start([unix], "--nbd", "systemd", pid=1)) == 1
    assert stop_code(start([], "--nbd", "systemd", fds=0)) == 1
    assert stop_code(start([unix], fds=9)) == 1
    assert stop_code(start([], fds="x")) == 1
    r, w = os.pipe()
    assert stop_code(start([r])) == 1
    assert stop_code(start([socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)])) == 1
    assert stop_code(start([unix], pid=1)) == 2, "usage: nowhere to listen"


@attempt
def activate():
    """systemd-socket-activate"""
    program = "/usr/bin/systemd-socket-activate"
    if not os.path.exists(program):
        return
    own = work + "/activated"
    # It passes on no environment but what it is told.
    variables = [f"--setenv={k}={v}" for k, v in os.environ.items() if k.startswith(("ELIDE", "LD_", "AWS_"))]
    server = subprocess.Popen([program, "-l", own, *variables, ELIDE, "serve", "disk"], stderr=subprocess.DEVNULL)
    while not os.path.exists(own):
        time.sleep(0.05)
    assert connect(unix=own).pread(5, 0) == b"early"
    server.terminate()
    assert server.wait(30) == 0


@attempt
def drained():
    """SIGTERM: nobody new, what is in flight is finished, then ESHUTDOWN or the end"""
    child = start([unix])
    h = connect(unix=path)
    buffers = [nbd.Buffer.from_bytearray(bytearray([i + 1] * 65536)) for i in range(64)]
    cookies = [h.aio_pwrite(b, i * 65536) for i, b in enumerate(buffers)]
    os.kill(child, signal.SIGTERM)
    done = refused = 0
    while cookies:
        for cookie in list(cookies):
            try:
                if not h.aio_command_completed(cookie):
                    continue
                done += 1
            except nbd.Error as error:
                assert error.errnum in (108, 107, None) or h.aio_is_closed() or h.aio_is_dead(), error
                refused += 1
            cookies.remove(cookie)
        if cookies:
            h.poll(1000)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # What was acknowledged before the end is there after it.
    child = start([unix])
    h = connect(unix=path)
    found = sum(h.pread(65536, i * 65536) == bytes([i + 1]) * 65536 for i in range(64))
    assert found >= done, f"{done} were acknowledged, {found} are there"
    h.shutdown()
    assert stop(child) == 0


@attempt
def at_once():
    """a second SIGTERM ends it at once, and nothing acknowledged is lost"""
    child = start([unix])
    h = connect(unix=path)
    h.pwrite(b"before the end", 1 << 20)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.02)
    try:
        os.kill(child, signal.SIGTERM)
    except ProcessLookupError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, -signal.SIGTERM)
    child = start([unix])
    assert connect(unix=path).pread(14, 1 << 20) == b"before the end"
    assert stop(child) == 0


finish()

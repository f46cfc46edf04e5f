#!/usr/bin/python3
"""usage: nbd-tls.py SOCKET DIRECTORY

Python's TLS (OpenSSL) against a server that requires it, on a Unix socket; ca-cert.pem is in the directory.
"""
import socket, ssl, struct, sys

PATH, DIRECTORY = sys.argv[1:]
OPTION = 0x49484156454F5054


def bare():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(PATH)
    assert s.recv(18, socket.MSG_WAITALL).startswith(b"NBDMAGICIHAVEOPT")
    s.sendall(struct.pack(">I", 3))
    return s


def option(s, number, payload=b""):
    s.sendall(struct.pack(">QII", OPTION, number, len(payload)) + payload)


def reply(s):
    head = b""
    while len(head) < 20:
        more = s.recv(20 - len(head))
        if not more:
            raise EOFError
        head += more
    _, number, kind, length = struct.unpack(">QIII", head)
    body = b""
    while len(body) < length:
        body += s.recv(length - len(body))
    return kind, body


def secured(minimum, maximum):
    s = bare()
    option(s, 5)
    assert reply(s) == (1, b"")
    context = ssl.create_default_context(cafile=DIRECTORY + "/ca-cert.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = minimum, maximum
    return context.wrap_socket(s, server_hostname="localhost")


V = ssl.TLSVersion
for version, name in ((V.TLSv1_2, "TLSv1.2"), (V.TLSv1_3, "TLSv1.3")):
    s = secured(version, version)
    assert s.version() == name and s.compression() is None
    assert "GCM" in s.cipher()[0] or "CHACHA20" in s.cipher()[0], s.cipher()
    option(s, 5)
    assert reply(s)[0] == 0x80000003, "STARTTLS in TLS"
    option(s, 3)
    while (answer := reply(s))[0] != 1:
        assert answer[0] == 2
    assert not (s.session and s.session.has_ticket), "a ticket"
    option(s, 2)
    assert reply(s)[0] == 1
    assert s.recv(1) == b"", "closed in order"
try:
    secured(V.TLSv1, V.TLSv1_1)
    raise SystemExit("TLS 1.1 was accepted")
except (ssl.SSLError, OSError):
    pass

# The injection of options: what stands behind STARTTLS is no option, and nothing of it is answered later.
s = bare()
s.sendall(struct.pack(">QII", OPTION, 5, 0) + struct.pack(">QII", OPTION, 3, 0))
assert reply(s) == (1, b"")
try:
    assert s.recv(1) == b"", "an answer to what was injected"
except ConnectionResetError:
    pass

#!/usr/bin/env python3
"""An HTTP proxy in front of an object store that makes it slow or unreliable on purpose.

    store_proxy.py UPSTREAM_HOST:PORT [--port N] [--profile none|near|cloud] [--rate BYTES_PER_SECOND] [--link BYTES_PER_SECOND]
                   [--port-file FILE] [--log FILE]
    store_proxy.py DIRECTORY …        no upstream: objects that a store in a directory holds, to be read as those of any bucket

Requests pass through unchanged (Host included, so signatures stay valid); only time and fate are changed. What it does can be
changed while it runs, by a GET on the proxy itself:

    curl 'http://127.0.0.1:PORT/-/set?outage=1'              refuse everything: connections are reset
    curl 'http://127.0.0.1:PORT/-/set?drop_request=0.1&drop_response=0.1&error=0.05'
                                                             shares of requests that never arrive, that take effect and whose
                                                             answer is lost, that get a 503
    curl 'http://127.0.0.1:PORT/-/set?cut_request=0.1&cut_response=0.1'
                                                             shares of requests and of answers that break off in the middle
    curl 'http://127.0.0.1:PORT/-/stats'                     requests, what was done to them, and bytes, by method, as JSON

`--log` gets a line for each request: its method and what it asks for. `--rate` is what one stream gets, `--link` what all get together. The profile `near` adds 20 ms to each request, `cloud`
adds latencies drawn from three points each (50th, 99th, 99.9th percentile): GET 60/80/120 ms, PUT
100/195/275 ms; and holds each stream to 80 MB/s.
"""
import argparse, asyncio, bisect, hashlib, json, os, random, re, sys, urllib.parse

PROFILES = {
    "none": ({}, 0),
    "near": ({"GET": (0.020, 0.020, 0.020), "PUT": (0.020, 0.020, 0.020)}, 80_000_000),
    "cloud": ({"GET": (0.060, 0.080, 0.120), "PUT": (0.100, 0.195, 0.275)}, 80_000_000),
}
CHUNK = 256 * 1024


class State:
    def __init__(self, options):
        self.directory = options.upstream if "/" in options.upstream else None
        if not self.directory:
            self.host, _, port = options.upstream.rpartition(":")
            self.port = int(port)
        self.link, self.link_free = options.link, 0.0
        self.latency, self.rate = PROFILES[options.profile]
        self.rate = options.rate if options.rate is not None else self.rate
        self.random = random.Random(options.seed)
        self.outage = 0.0
        self.drop_request = self.drop_response = self.error = 0.0
        self.cut_request = self.cut_response = 0.0
        self.fates = {}
        self.count, self.sent, self.received = {}, 0, 0
        self.open = set()
        self.log = open(options.log, "w", buffering=1) if options.log else None

    def delay(self, method):
        """Seconds until the first byte: a straight line between the percentiles of the profile."""
        points = self.latency.get("PUT" if method in ("PUT", "POST") else "GET")
        if not points:
            return 0.0
        if points[0] == points[2]:
            return points[0]
        shares, times = (0.0, 0.5, 0.99, 0.999, 1.0), (points[0] * 0.8, *points, points[2] * 1.2)
        u = self.random.random()
        i = max(1, bisect.bisect_left(shares, u))
        return times[i - 1] + (times[i] - times[i - 1]) * (u - shares[i - 1]) / (shares[i] - shares[i - 1])

    SETTINGS = ("outage", "drop_request", "drop_response", "error", "cut_request", "cut_response", "rate", "link")

    def set(self, query, asker):
        for key, value in urllib.parse.parse_qsl(query):
            if key not in self.SETTINGS:
                raise ValueError(f"unknown setting {key}")
            setattr(self, key, float(value))
        if self.outage:
            for writer in self.open - {asker}:
                writer.transport.abort()

    def note(self, fate, method):
        of = self.fates.setdefault(fate, {})
        of[method] = of.get(method, 0) + 1

    def stats(self):
        return json.dumps({"requests": self.count, "fates": self.fates, "bytes_sent": self.sent, "bytes_received": self.received})


async def read_head(reader):
    """The start line and the headers as they came, and a dictionary of the headers; None when the peer is gone."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = raw[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return raw, lines[0], headers


async def body_chunks(reader, headers, until_end):
    """The body's bytes as they are framed on the wire."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if size == 0:
                return
    left = headers.get("content-length")
    if left is None and not until_end:
        return
    left = int(left) if left is not None else 1 << 62
    while left:
        data = await reader.read(min(CHUNK, left))
        if not data:
            if until_end and "content-length" not in headers:
                return
            raise ConnectionError("short body")
        left -= len(data)
        yield data


class Pace:
    """Holds one stream to its rate, and all of them to that of the link."""

    def __init__(self, state):
        self.state, self.loop, self.moved = state, asyncio.get_running_loop(), 0
        self.start = self.loop.time()

    async def moving(self, count):
        """Before these bytes leave."""
        if self.state.link:
            now = self.loop.time()
            begin = max(now, self.state.link_free)
            self.state.link_free = begin + count / self.state.link
            if begin - now > 0.002:
                await asyncio.sleep(begin - now)

    async def moved_on(self, count):
        """After they left."""
        self.moved += count
        if self.state.rate:
            ahead = self.moved / self.state.rate - (self.loop.time() - self.start)
            if ahead > 0.002:
                await asyncio.sleep(ahead)


async def first_half(chunks, headers):
    """The first half of a body whose length is told, then the connection breaks; all of any other."""
    left = int(headers.get("content-length") or 1 << 62) // 2
    async for data in chunks:
        if len(data) >= left:
            yield data[:left]
            raise ConnectionError("cut")
        left -= len(data)
        yield data


async def pump(chunks, writer, state, counter):
    pace = Pace(state)
    async for data in chunks:
        await pace.moving(len(data))
        writer.write(data)
        await writer.drain()
        setattr(state, counter, getattr(state, counter) + len(data))
        await pace.moved_on(len(data))


async def send_file(method, target, headers, writer, state):
    """Answers a read from the directory, as a bucket would: /BUCKET/KEY, whole or a range."""
    parts = urllib.parse.unquote(urllib.parse.urlsplit(target).path).split("/")
    path = os.path.join(state.directory, *parts[2:])
    if method not in ("GET", "HEAD") or ".." in parts or not os.path.isfile(path):
        status, code = ("405 Method Not Allowed", "MethodNotAllowed") if method not in ("GET", "HEAD") else ("404 Not Found", "NoSuchKey")
        text = f"<Error><Code>{code}</Code></Error>".encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + (text if method != "HEAD" else b""))
        return await writer.drain()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)) if wanted else (0, size - 1)
        if wanted and first >= size:
            writer.write(f"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n".encode())
            return await writer.drain()
        # Of a part, nobody compares it with the bytes.
        tag = f"{size:032x}-1" if wanted else hashlib.md5(file.read()).hexdigest()
        more = f"Content-Range: bytes {first}-{last}/{size}\r\n" if wanted else ""
        status = "206 Partial Content" if wanted else "200 OK"
        writer.write(f'HTTP/1.1 {status}\r\nContent-Length: {last - first + 1}\r\nETag: "{tag}"\r\n{more}\r\n'.encode())
        await writer.drain()
        pace, loop = Pace(state), asyncio.get_running_loop()
        while method == "GET" and first <= last:
            count = min(CHUNK, last - first + 1)
            await pace.moving(count)
            await loop.sendfile(writer.transport, file, first, count)
            first += count
            state.sent += count
            await pace.moved_on(count)


def answer(status, text):
    data = text.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


async def one_request(head, client_reader, client_writer, state):
    """Carries one request; returns whether the connection may be used again."""
    raw, line, headers = head
    method, target, _ = line.split(" ", 2)
    if target.startswith("/-/"):
        where = urllib.parse.urlsplit(target)
        try:
            if where.path == "/-/set":
                state.set(where.query, client_writer)
            client_writer.write(answer("200 OK", state.stats() + "\n"))
        except ValueError as e:
            client_writer.write(answer("400 Bad Request", f"{e}\n"))
        await client_writer.drain()
        return False
    if state.outage:
        raise ConnectionError("outage")
    state.count[method] = state.count.get(method, 0) + 1
    if state.log:
        state.log.write(f"{method} {urllib.parse.unquote(target)}\n")
    fate = state.random.random()
    await asyncio.sleep(state.delay(method))
    if fate < state.drop_request:
        state.note("drop_request", method)
        raise ConnectionError("request dropped")
    if fate < state.drop_request + state.error:
        state.note("error", method)
        client_writer.write(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"))
        await client_writer.drain()
        return False
    if state.directory:
        await send_file(method, target, headers, client_writer, state)
        return True
    up_reader, up_writer = await asyncio.open_connection(state.host, state.port, limit=1 << 20)
    try:
        # The proxy answers 100-continue itself: otherwise each PUT waits one more round trip for nothing.
        if headers.get("expect", "").lower() == "100-continue":
            client_writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            raw = b"\r\n".join(h for h in raw.split(b"\r\n") if not h.lower().startswith(b"expect:"))
        up_writer.write(raw)
        body = body_chunks(client_reader, headers, until_end=False)
        if headers.get("content-length", "0") != "0" and state.random.random() < state.cut_request:
            state.note("cut_request", method)
            body = first_half(body, headers)
        await pump(body, up_writer, state, "received")
        while True:
            reply = await read_head(up_reader)
            if reply is None:
                raise ConnectionError("upstream closed")
            if reply[1].split(" ")[1] != "100":
                break
        status = reply[1].split(" ")[1]
        if state.random.random() < state.drop_response:
            state.note("drop_response", method)
            raise ConnectionError("response dropped")
        client_writer.write(reply[0])
        if method != "HEAD" and status not in ("204", "304"):
            body = body_chunks(up_reader, reply[2], until_end=True)
            if reply[2].get("content-length", "0") != "0" and state.random.random() < state.cut_response:
                state.note("cut_response", method)
                body = first_half(body, reply[2])
            await pump(body, client_writer, state, "sent")
        await client_writer.drain()
        framed = "content-length" in reply[2] or "transfer-encoding" in reply[2] or method == "HEAD" or status in ("204", "304")
        return framed and reply[2].get("connection", "").lower() != "close" and headers.get("connection", "").lower() != "close"
    finally:
        up_writer.close()


async def serve_client(reader, writer, state):
    state.open.add(writer)
    try:
        while (head := await read_head(reader)) is not None:
            if not await one_request(head, reader, writer, state):
                break
    except (ConnectionError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        writer.transport.abort()
    finally:
        state.open.discard(writer)
        writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file")
    parser.add_argument("--log")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="none")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--link", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    state = State(options)
    server = await asyncio.start_server(lambda r, w: serve_client(r, w, state), "127.0.0.1", options.port, limit=1 << 20, backlog=256)
    port = server.sockets[0].getsockname()[1]
    if options.port_file:
        with open(options.port_file, "w") as f:
            f.write(f"{port}\n")
    print(f"store proxy on 127.0.0.1:{port}, upstream {options.upstream}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)

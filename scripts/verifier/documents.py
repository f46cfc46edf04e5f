"""The documents of a bucket: sealed TOML, entries, signed checkpoints, proofs."""
import base64, re, tomllib
from ed25519 import verify
from merkle import consistent, included, leaf, sha

SEAL = re.compile(rb'\[seal\]\nsignature = "ed25519:([0-9a-f]{128})"\n\Z')


class Bad(Exception):
    pass


def unhex(text, prefix, length):
    if not isinstance(text, str) or not text.startswith(prefix):
        raise Bad(f"'{text}' is not {prefix}…")
    try:
        data = bytes.fromhex(text[len(prefix):])
    except ValueError:
        raise Bad(f"'{text}' is not hexadecimal")
    if len(data) != length or text != prefix + data.hex():
        raise Bad(f"'{text}' has not {length} bytes")
    return data


def sealed(raw, subject, key=None):
    """The fields of a document that the key in it, or the given one, sealed for the subject (a function of the fields)."""
    match = SEAL.search(raw)
    if not match:
        raise Bad("it does not end with a seal")
    try:
        fields = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Bad(f"it is not TOML: {error}")
    key = key or unhex(fields.get("key"), "ed25519:", 32)
    message = b"elide/1/" + subject(fields).encode() + b"\0" + raw[: match.start()]
    if not verify(key, bytes.fromhex(match.group(1).decode()), message):
        raise Bad("its seal is not that of its key")
    fields["key bytes"] = key
    return fields


def entry(raw, name, seq):
    if len(raw) > 65536:
        raise Bad("it is longer than 64 KiB")
    e = sealed(raw, lambda f: str(f.get("log")))
    if e["log"] != f"name/{name}":
        raise Bad(f"it is an entry of {e['log']}")
    if e.get("seq") != seq:
        raise Bad(f"it is entry {e.get('seq')}, in the slot of entry {seq}")
    if sha(e["key bytes"]).hex() != e.get("actor"):
        raise Bad("its actor is not the id of its key")
    previous = e.get("prev")
    if (previous == "none") != (seq == 0):
        raise Bad("only entry 0 has none before it")
    e["previous"] = None if previous == "none" else unhex(previous, "sha256:", 32)
    return e


def note(raw):
    """A signed checkpoint: origin, size, root, text, signatures."""
    text, _, signatures = raw.decode().rpartition("\n\n")
    lines = text.split("\n")
    if len(lines) < 3 or not signatures.endswith("\n"):
        raise Bad("it is no checkpoint")
    signed = []
    for line in signatures.splitlines():
        dash, name, data = line.split(" ")
        signed.append((name, base64.b64decode(data, validate=True)))
    return {"origin": lines[0], "size": int(lines[1]), "root": base64.b64decode(lines[2], validate=True), "text": text + "\n",
            "signatures": signed}


def signers(checkpoint, keys):
    out = []
    for key in keys:
        id = sha(checkpoint["origin"].encode() + b"\n\1" + key)[:4]
        for name, data in checkpoint["signatures"]:
            if name == checkpoint["origin"] and data[:4] == id and verify(key, data[4:], checkpoint["text"].encode()):
                out.append(sha(key).hex())
    return out


def check_proof(path, keys):
    raw = open(path, "rb").read()
    head, _, rest = raw.partition(b"\n\n")
    lines, checkpoint = head.decode().split("\n"), note(rest)
    if lines[0] == "c2sp.org/tlog-proof@v1":
        data, index = base64.b64decode(lines[1].removeprefix("extra "), validate=True), int(lines[2].removeprefix("index "))
        hashes = [base64.b64decode(l, validate=True) for l in lines[3:]]
        holds = included(leaf(data), index, checkpoint["size"], checkpoint["root"], hashes)
        what = f"entry {index}"
    elif lines[0] == "elide-consistency@v1":
        _, size, root = lines[1].split(" ")
        hashes = [base64.b64decode(l, validate=True) for l in lines[2:]]
        holds = consistent(int(size), base64.b64decode(root, validate=True), checkpoint["size"], checkpoint["root"], hashes)
        what = f"the first {size} entries"
    else:
        raise Bad("it is no proof")
    by = signers(checkpoint, keys)
    print(f"{checkpoint['origin']}: {what} of {checkpoint['size']}: {'holds' if holds else 'DOES NOT HOLD'},",
          f"signed by {', '.join(by) or 'NOBODY who is trusted'}")
    return holds and bool(by)

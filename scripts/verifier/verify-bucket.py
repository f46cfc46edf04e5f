#!/usr/bin/env python3
"""usage: verify-bucket.py [--json] [--name NAME]... [--trust HOST.PUB]... [--witness FILE]... DIR [DIR...]
       verify-bucket.py --proof FILE [--trust HOST.PUB]... [DIR]
       verify-bucket.py --self-test

Verifies copies of Elide's bucket without Elide: from docs/formats alone, with Python's standard library (python3-cryptography,
if it is there, makes signatures quicker). Of each name: seals, chain, numbers, what hosts have signed of it (heads, checkpoints),
the page chain and signatures of the volumes that its entries grant. What entries mean, and whether they may follow each other, is
not checked: 'elide events verify' does. The first object that is not what it should be is printed first; the exit code is 4 then.

--trust: only these hosts' keys may have written (documents as in hosts/<id>/host.pub). --witness: a checkpoint that you kept.
"""
import json, os, re, struct, sys, tomllib
from chain import findings, link
from documents import Bad, check_proof, entry, note, sealed, signers, unhex
from ed25519 import self_test, verify
from merkle import leaf, sha, tree

ENTRY = re.compile(r"(\d{16})\.toml\Z")


class Bucket:
    def __init__(self, root, trusted):
        self.root, self.faults, self.checked = root, [], {"entries": 0, "pages": 0, "signatures": 0, "checkpoints": 0}
        self.hosts, self.claims = {}, {}
        for key in self.list("hosts"):
            parts = key.split("/")
            try:
                if parts[2:] == ["host.pub"]:
                    document = sealed(self.get(key), lambda f: f"host.pub/{f.get('id')}")
                    if not sha(document["key bytes"]).hex() == document["id"] == parts[1]:
                        raise Bad("it is the key of another host")
                    self.hosts[parts[1]] = document["key bytes"]
                elif len(parts) == 4 and parts[2] == "heads":
                    heads = sealed(self.get(key), lambda f: f"heads/{f.get('host')}")
                    host = sha(heads["key bytes"]).hex()
                    if not host == heads["host"] == parts[1] or not parts[3].startswith(heads["at"][:10]):
                        raise Bad("it is of another host or day")
                    for line in heads["heads"]:
                        name, seq, hash = line.split(" ")
                        self.claim(name, int(seq), bytes.fromhex(hash), key)
            except (Bad, KeyError, ValueError) as error:
                self.faults.append((key, f"{error}"))
        self.host_faults, self.faults = self.faults, []
        self.trusted = trusted

    def list(self, prefix):
        out = []
        for folder, _, files in os.walk(os.path.join(self.root, prefix)):
            out += [os.path.relpath(os.path.join(folder, f), self.root) for f in files]
        return sorted(out)

    def get(self, key):
        try:
            with open(os.path.join(self.root, key), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def claim(self, name, seq, hash, by):
        self.claims.setdefault(name, []).append((seq, hash, by))

    def bad(self, key, detail):
        self.faults.append((key, detail))

    # Names.

    def name(self, name, witnesses):
        raws = {}
        for key in self.list(f"events/{name}"):
            match = ENTRY.search(key)
            if match and key.count("/") == 2:
                raws[int(match.group(1))] = self.get(key)
        count = 0
        while count in raws:
            count += 1
        entries, links = [], []
        for seq in range(count):
            raw, fault, e = raws[seq], None, None
            try:
                e = entry(raw, name, seq)
                self.checked["signatures"] += 1
                if self.trusted and e["key bytes"] not in self.trusted:
                    raise Bad(f"host {e['actor']} is none that is trusted")
            except (Bad, KeyError) as error:
                fault = f"{error}"
            entries.append(e)
            links.append(link(f"events/{name}/{seq:016}.toml", sha(raw), e and e["previous"], fault))
        self.checked["entries"] += count
        claims = list(self.claims.get(name, [])) + list(self.hint(name))
        beyond = False
        for seq in sorted(s for s in raws if s > count):
            try:
                entry(raws[seq], name, seq)
                beyond = True
            except Bad as error:
                self.bad(f"events/{name}/{seq:016}.toml", f"{error}")
        strays, self.faults = self.faults, []
        checkpoints = self.checkpoints(name, raws, count, claims)
        checkpoint_faults, self.faults = self.faults, []
        if beyond or any(seq >= count for seq, _, _ in claims):
            links.append(link(f"events/{name}/{count:016}.toml"))
        for seq, hash, by in claims:
            links[min(seq, count)]["claims"].append((hash, by))
        for i, detail in findings(links, True):
            self.bad(links[i]["key"], detail)
        for by, size, root in checkpoints + witnesses.get(name, []):
            if size > count:
                self.bad(f"events/{name}/{count:016}.toml", f"it is not there, and {by} has seen a log of {size} entries")
            elif not self.faults and tree([leaf(raws[i]) for i in range(size)]) != root:
                self.bad(f"events/{name}/{size - 1:016}.toml", f"{by} has another tree of {size} entries")
            else:
                self.checked["checkpoints"] += 1
        self.faults += strays + checkpoint_faults + self.host_faults
        for e in entries:
            if e and e["actor"] not in self.hosts and f"hosts/{e['actor']}/host.pub" not in [k for k, _ in self.faults]:
                self.bad(f"hosts/{e['actor']}/host.pub", "the key of a host that wrote here is not there")
        self.volumes(name, entries)
        return max((s for s, h, _ in claims if s < count and links[s]["hash"] == h), default=None)

    def hint(self, name):
        """Entries in a hint are believed for their seals."""
        raw = self.get(f"names/{name}.toml")
        try:
            hint = tomllib.loads((raw or b"").decode())
            for text in hint.get("documents", [])[1 if hint.get("has_checkpoint") else 0:]:
                data = text.encode()
                seq = tomllib.loads(text)["seq"]
                entry(data, name, seq)
                yield seq, sha(data), f"names/{name}.toml"
        except (Bad, KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            return

    def checkpoints(self, name, raws, count, claims):
        out = []
        for key in self.list(f"events/{name}/checkpoints"):
            try:
                if key.endswith(".note"):
                    checkpoint = note(self.get(key))
                    place = f"{checkpoint['size'] - 1:016}.note"
                    if place != os.path.basename(key) or not checkpoint["origin"].endswith(f"/name/{name}"):
                        raise Bad("it is of another place")
                    if not signers(checkpoint, self.hosts.values()):
                        raise Bad("no host of this bucket signed it")
                    out.append((key, checkpoint["size"], checkpoint["root"]))
                elif key.endswith(".toml"):
                    c = sealed(self.get(key), lambda f: f"checkpoint/{f.get('name')}")
                    if c["name"] != name or f"{c['seq']:016}.toml" != os.path.basename(key):
                        raise Bad("it is that of another entry")
                    claims.append((c["seq"], unhex(c["hash"], "sha256:", 32), key))
                    out.append((key, c["seq"] + 1, unhex(c["root"], "sha256:", 32)))
            except (Bad, KeyError, ValueError) as error:
                self.bad(key, f"{error}")
        return out

    # Volumes, of which the name's entries give the keys, and name pages.

    def volumes(self, name, entries):
        granted, claims, purged = {}, {}, set()
        for e in entries:
            if not e:
                continue
            body = e.get("body", {})
            if e["kind"] in ("created", "forked", "claimed", "import_started", "fenced") and "key" in body:
                granted.setdefault(body["volume"], unhex(body["key"], "ed25519:", 32))
            if e["kind"] == "purged":
                purged |= set(granted)
            for part in ("cut", "basis"):
                if f"{part}_page_hash" in body:
                    hash = unhex(body[f"{part}_page_hash"], "sha256:", 32)
                    claim = (body[f"{part}_page"], hash, f"events/{name}/{e['seq']:016}.toml")
                    claims.setdefault(body[f"{part}_volume"], []).append(claim)
        for volume, key in granted.items():
            if volume not in purged:
                self.pages(volume, key, claims.get(volume, []))

    def pages(self, volume, key, claims):
        prefix, links, n = f"volumes/{volume}/journal", [], 0
        place = f"volumes/{volume}/volume.toml"
        document = self.get(place)
        try:
            if document is None or sealed(document, lambda f: f"volume.toml/{f.get('volume')}", key)["volume"] != volume:
                raise Bad("it is not there, or of another volume")
        except (Bad, KeyError) as error:
            self.bad(place, f"{error}")
        there = {int(k[-8:]): k for k in self.list(prefix) if re.search(r"/\d{8}\Z", k)}
        while n in there:
            raw = self.get(there[n])
            page = link(there[n], sha(raw))
            try:
                page.update(self.page(raw, volume, n, key))
            except (Bad, struct.error, IndexError, UnicodeDecodeError) as error:
                page["fault"] = f"{error}"
            links.append(page)
            n += 1
        self.checked["pages"] += n
        if any(k > n for k in there) or any(page >= n for page, _, _ in claims):
            links.append(link(f"{prefix}/{n:08}"))
        for page, hash, by in claims:
            links[min(page, n)]["claims"].append((hash, by))
        for i, detail in findings(links, False):
            self.bad(links[i]["key"], detail)

    def page(self, raw, volume, n, key):
        if raw[:8] != b"ELIDEPG\1":
            raise Bad("it is no page")
        version, flags, head, total = struct.unpack_from("<HHIQ", raw, 8)
        if not 192 + 64 <= head <= len(raw) == total:
            raise Bad(f"it has {len(raw)} bytes, its head says {total}")
        number, = struct.unpack_from("<Q", raw, 56)
        if number != n or raw[40:56] != crockford(volume):
            raise Bad("it is of another place")
        if flags & 1:
            # name: LEB128 length and text; seq; the key of the host that ends the log.
            length = raw[192]
            name, seq = raw[193:193 + length].decode(), struct.unpack_from("<Q", raw, 193 + length)[0]
            key = raw[201 + length:233 + length]
            by = self.get(f"events/{name}/{seq:016}.toml")
            allowing = by and entry(by, name, seq)
            if not allowing or allowing["key bytes"] != key or allowing["kind"] not in ("fenced", "claimed"):
                raise Bad("it is ended by nobody who may")
        if not verify(key, raw[head - 64:head], b"elide/1/page\0" + raw[:head - 64]):
            raise Bad("it is not signed by its volume's key")
        self.checked["signatures"] += 1
        return {"hash": sha(raw[:head]), "previous": raw[112:144] if n else None}


def crockford(text):
    n = 0
    for c in text:
        n = n * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(c)
    return n.to_bytes(16, "big")


def main(arguments):
    trusted, witnesses, names, roots, proof, as_json = [], {}, [], [], None, False
    arguments = list(arguments)
    while arguments:
        a = arguments.pop(0)
        if a == "--json":
            as_json = True
        elif a == "--name":
            names.append(arguments.pop(0))
        elif a == "--proof":
            proof = arguments.pop(0)
        elif a == "--trust":
            trusted.append(sealed(open(arguments.pop(0), "rb").read(), lambda f: f"host.pub/{f.get('id')}")["key bytes"])
        elif a == "--witness":
            path = arguments.pop(0)
            kept = note(open(path, "rb").read())
            witnesses.setdefault(kept["origin"].rsplit("/", 1)[-1], []).append((path, kept["size"], kept["root"]))
        elif a == "--self-test":
            return self_test()
        elif a.startswith("-"):
            sys.exit(__doc__)
        else:
            roots.append(a)
    if proof:
        keys = trusted or [k for root in roots for k in Bucket(root, []).hosts.values()]
        sys.exit(0 if check_proof(proof, keys) else 4)
    if not roots:
        sys.exit(__doc__)
    sound = True
    for root in roots:
        bucket, complete = Bucket(root, trusted), {}
        wanted = names or sorted(os.listdir(os.path.join(root, "events")))
        for name in wanted:
            complete[name] = bucket.name(name, witnesses)
        first = next(iter(bucket.faults), None)
        sound = sound and not first
        if as_json:
            print(json.dumps({"bucket": root, "sound": not first, "first": first and first[0], "completeTo": complete,
                              "faults": [{"place": k, "detail": d} for k, d in bucket.faults], **bucket.checked}))
            continue
        print(f"{root}: checked {len(wanted)} names, " + ", ".join(f"{n} {what}" for what, n in bucket.checked.items()))
        for key, detail in bucket.faults:
            print(f"FAULT at {key}: {detail}")
        for name, seq in complete.items():
            print(f"{name}: complete to entry {seq}, as somebody signed" if seq is not None
                  else f"{name}: nothing here can tell whether entries were cut off its end")
        print("sound" if not first else f"NOT SOUND: the first bad object is {first[0]}")
    sys.exit(0 if sound else 4)


if __name__ == "__main__":
    main(sys.argv[1:])

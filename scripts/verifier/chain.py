"""Chains: which of the objects is not the one that was put there?"""


def link(key, hash=None, previous=None, fault=None):
    """A slot. hash None: nothing is there; previous: what it says of the one before; fault: what is wrong with it by itself."""
    return {"key": key, "hash": hash, "previous": previous, "fault": fault, "claims": []}


def findings(links, keeps_foreign):
    """What is wrong, (index, detail), in order. Claims of a link are (hash, by): what others have signed of it."""
    found = {}

    def fits(i):
        return links[i]["previous"] == links[i - 1]["hash"]

    def readable(i):
        return i < len(links) and links[i]["hash"] is not None and not links[i]["fault"]

    for i, slot in enumerate(links):
        other = next((by for hash, by in slot["claims"] if hash != slot["hash"]), None)
        if slot["hash"] is None:
            found[i] = "it is not there" + (f", and {other} names it" if other else ", and later ones are there")
        elif slot["fault"] and not (keeps_foreign and readable(i + 1) and fits(i + 1)):
            found[i] = slot["fault"]
        elif other:
            found[i] = f"it is not the one that {other} names: it was replaced"
    for i in range(1, len(links)):
        if not readable(i) or not readable(i - 1) or fits(i) or i in found or i - 1 in found:
            continue
        bad = i - 1
        if any(hash == links[i]["hash"] for hash, _ in links[i]["claims"]):
            bad = i - 1
        elif any(hash == links[i - 1]["hash"] for hash, _ in links[i - 1]["claims"]):
            bad = i
        elif readable(i + 1) and not fits(i + 1):
            bad = i
        found[bad] = "it and its neighbour do not fit: it was replaced"
    return sorted(found.items())

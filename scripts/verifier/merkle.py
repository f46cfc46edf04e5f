"""Merkle trees, as in RFC 6962, and proofs over them."""
import hashlib


def sha(data):
    return hashlib.sha256(data).digest()


def leaf(data):
    return sha(b"\0" + data)


def node(left, right):
    return sha(b"\1" + left + right)


def tree(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node(tree(leaves[:k]), tree(leaves[k:]))


def included(hash, index, size, root, path):
    if index >= size:
        return False
    n, last = index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if n & 1 or n == last:
            hash = node(sibling, hash)
            while not n & 1 and n:
                n, last = n >> 1, last >> 1
        else:
            hash = node(hash, sibling)
        n, last = n >> 1, last >> 1
    return last == 0 and hash == root


def consistent(old, old_root, new, new_root, path):
    if old == new:
        return not path and old_root == new_root
    if not 0 < old < new:
        return False
    path = list(path)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    n, last = old - 1, new - 1
    while n & 1:
        n, last = n >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if n & 1 or n == last:
            before, after = node(sibling, before), node(sibling, after)
            while not n & 1 and n:
                n, last = n >> 1, last >> 1
        else:
            after = node(after, sibling)
        n, last = n >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root

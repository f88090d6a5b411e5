"""The Merkle tree hash of RFC 9162, section 2.1.1: one value that no row can be changed or removed under. Pure."""

from __future__ import annotations

import hashlib

__all__ = ["MerkleTree"]

_LEAF = b"\x00"
_NODE = b"\x01"


class MerkleTree:
    """Takes leaves in order and knows the root at any time. Holds one hash per level: the logarithm of its size."""

    def __init__(self) -> None:
        self._size = 0
        self._full: list[bytes] = []
        """Roots of the full subtrees so far, from the largest to the smallest, one per bit of the size."""

    def __len__(self) -> int:
        return self._size

    def add(self, leaf: bytes) -> None:
        """Put one more leaf at the end."""
        node = hashlib.sha256(_LEAF + leaf).digest()
        size = self._size
        while size & 1:
            node = hashlib.sha256(_NODE + self._full.pop() + node).digest()
            size >>= 1
        self._full.append(node)
        self._size += 1

    def root(self) -> bytes:
        """Return the 32 bytes of the root over the leaves so far; without any, the hash of nothing."""
        if not self._full:
            return hashlib.sha256().digest()
        root = self._full[-1]
        for left in reversed(self._full[:-1]):
            root = hashlib.sha256(_NODE + left + root).digest()
        return root

"""The Merkle tree hash against the recursive definition of RFC 9162, and against published values."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.receipts.ledger.merkle import MerkleTree

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [  # of the first n leaves, from the test data of Certificate Transparency (RFC 6962)
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def recursive(leaves: list[bytes]) -> bytes:
    """Compute the root as RFC 9162, 2.1.1 defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + recursive(leaves[:split]) + recursive(leaves[split:])).digest()


def rooted(leaves: list[bytes]) -> bytes:
    tree = MerkleTree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_published_roots_are_reproduced(size: int) -> None:
    """The roots of Certificate Transparency's test data come out, for every size."""
    assert rooted(LEAVES[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=8), max_size=130))
def test_the_stream_gives_what_the_definition_gives(leaves: list[bytes]) -> None:
    """Leaf by leaf, the root is the one of the recursive definition, whatever the leaves."""
    assert rooted(leaves) == recursive(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_the_root_may_be_asked_at_any_time(leaves: list[bytes], data: st.DataObject) -> None:
    """Asking for the root in between changes nothing about what follows."""
    early = data.draw(st.integers(0, len(leaves)))
    tree = MerkleTree()
    for index, leaf in enumerate(leaves):
        if index == early:
            assert tree.root() == recursive(leaves[:early])
        tree.add(leaf)
    assert (tree.root(), len(tree)) == (recursive(leaves), len(leaves))


def test_memory_is_one_hash_per_level() -> None:
    """A million rows need a tree of twenty hashes at most: what is held grows with the logarithm."""
    tree = MerkleTree()
    most = 0
    for index in range(2**14 + 5):
        tree.add(index.to_bytes(4))
        most = max(most, len(tree._full))
    assert most == 14


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=20), st.data())
def test_any_other_leaf_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    """A changed, removed or moved leaf has another root."""
    at = data.draw(st.integers(0, len(leaves) - 1))
    assert rooted([*leaves[:at], leaves[at] + b"!", *leaves[at + 1 :]]) != rooted(leaves)
    assert rooted([*leaves[:at], *leaves[at + 1 :]]) != rooted(leaves)

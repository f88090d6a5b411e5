"""What a fuzz target is, how its inputs are changed, and how it is run from the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Notation", "Target", "main", "words_of"]

FOLDER = Path(__file__).resolve().parents[1] / ".fuzz"
GUARDS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1")
LONGEST_WORD = 64  # libFuzzer takes no longer ones


@dataclass(frozen=True, kw_only=True)
class Notation:
    """How inputs of one kind are written.

    Attributes:
        value: finds a value, its first group; a match without the group is passed over.
        words: what may stand in a value's place, and what the format is made of.
    """

    value: re.Pattern[bytes]
    words: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one target runs.

    Attributes:
        check: reads one input, and raises where a promise is broken.
        notation: of its inputs.
    """

    check: Callable[[bytes], None]
    notation: Notation


def words_of(*words: str) -> tuple[bytes, ...]:
    """Encode words."""
    return tuple(word.encode() for word in words)


def main(targets: Mapping[str, Target], seeds: Mapping[str, Sequence[bytes]]) -> None:
    """Name the targets, or run the one that the command line names until it is stopped."""
    if len(sys.argv) == 1:
        print(*targets)
    elif sys.argv[1] not in targets:
        sys.exit(f"There is no such target. There are: {', '.join(targets)}.")
    else:
        _fuzz(sys.argv[1], targets[sys.argv[1]], seeds[sys.argv[1]], sys.argv[2:])


def _fuzz(name: str, target: Target, seeds: Sequence[bytes], options: Sequence[str]) -> None:
    """Write the target's seeds and words, and run it; never returns."""
    folder = FOLDER / name
    corpus, words = folder / "corpus", folder / "words.dict"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        target.check(seed)  # tables that are read once are read before anything is measured
        (corpus / f"seed-{number}").write_bytes(seed)
    short = (word for word in target.notation.words if word and len(word) <= LONGEST_WORD)
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in short))
    given = [f"-dict={words}", f"-artifact_prefix={folder}/", *GUARDS, *options]
    if all(option.startswith("-") for option in options):
        given.append(str(corpus))
    atheris.Setup([sys.argv[0], *given], target.check, custom_mutator=partial(_mutated, notation=target.notation))
    atheris.Fuzz()


def _mutated(data: bytes, max_size: int, seed: int, *, notation: Notation) -> bytes:
    """Put another value in one place, so that the input can still be read; every other time change any bytes."""
    seed, by_value = divmod(seed, 2)
    spots = [spot for spot in notation.value.finditer(data) if spot[1] is not None] if by_value else []
    if not spots:
        changed: bytes = atheris.Mutate(data, max_size)
        return changed
    seed, number = divmod(seed, len(spots))
    start, end = spots[number].span(1)
    return (data[:start] + notation.words[seed % len(notation.words)] + data[end:])[:max_size]

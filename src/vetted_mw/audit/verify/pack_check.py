"""Check an evidence pack: its files, its rows and what shows that none was left out, its heads and its sums."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import Manifest, Package, UnreadablePackError
from vetted_mw.audit.pack.pack_reader import PackReader
from vetted_mw.audit.report.csv_form import sums_csv
from vetted_mw.audit.report.rows import counted
from vetted_mw.audit.report.sums import Key
from vetted_mw.audit.report.totals import Adder
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.checkpoint_check import CheckpointWatch, KeptApart
from vetted_mw.audit.verify.findings import Code, Place, note, problem
from vetted_mw.audit.verify.heads import open_head, tell_head, tell_not_kept
from vetted_mw.audit.verify.ids import Ids
from vetted_mw.audit.verify.lines_check import tell_ids
from vetted_mw.audit.verify.methods import Methods
from vetted_mw.audit.verify.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.audit.verify.across import Copies
    from vetted_mw.audit.verify.findings import Tell
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["check_pack"]


def check_pack(
    package: Package,
    name: str,
    *,
    keys: Jwks | None,
    checkpoints: Sequence[KeptApart],
    tell: Tell,
    copies: Copies | None = None,
    trusts_packed_keys: bool = False,
) -> Checker:
    """Check one pack, and return who did, with what was met.

    Args:
        package: a zip file, or the folder it was unpacked into.
        name: what findings call it.
        keys: whose signatures count; None: those of the pack itself.
        checkpoints: those that were kept apart from its ledger.
        tell: takes what is found.
        copies: takes its rows, to be looked up in the ledgers given beside it.
        trusts_packed_keys: whether its own keys may stand for the issuer's.
    """
    place = Place(file=name)
    try:
        manifest = packed.read_manifest(package)
    except UnreadablePackError as error:
        tell(problem(Code.MANIFEST, Place(file=f"{name}!{packed.MANIFEST}"), str(error)))
        return Checker(keys=keys, tell=tell)
    reader = PackReader(package=package, name=name, manifest=manifest, tell=tell)
    reader.check_names()
    used = keys if keys is not None else reader.own_keys(is_trusted=trusts_packed_keys)
    if keys is not None:
        reader.compare_keys(keys)
    checker = Checker(keys=used, tell=tell, methods=Methods(brought=reader.methods()), copies=copies)
    with Ids() as ids:
        _Check(reader=reader, checker=checker, manifest=manifest, place=place, ids=ids).run(checkpoints)
    checker.conclude(place)
    return checker


@dataclass(slots=True, kw_only=True)
class _Check:
    reader: PackReader
    checker: Checker
    manifest: Manifest
    place: Place
    ids: Ids
    tracks: Tracks = field(default_factory=Tracks)
    seen: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    edges: dict[str, int] = field(default_factory=dict)
    beside: Counter[str] = field(default_factory=Counter)
    adder: Adder = field(default_factory=Adder)
    rows: int = 0

    def run(self, kept_apart: Sequence[KeptApart]) -> None:
        watch = self._watch(kept_apart)
        for place, text in self.reader.lines(packed.RECEIPTS):
            watch.meet(text)
            members = self.checker.check_text(text, place)
            self.rows += 1
            if members is not None:
                self._meet(members, text, place)
        self._check_edges()
        self._check_ledgers()
        self._check_heads()
        self._check_checkpoints(watch)
        tell_ids(self.ids, self.place, self.checker, is_part=not self.manifest.is_whole)
        self._check_aggregates()
        if not self.rows:
            self.checker.tell(note(Code.SKIPPED, self.place, "holds no receipt: none was issued in its period"))
        self.checker.counts.ledgers += len(self.tracks)
        self.reader.check_rest()

    def _watch(self, kept_apart: Sequence[KeptApart]) -> CheckpointWatch:
        watch = CheckpointWatch(keys=self.checker.keys, tell=self.checker.tell)
        place = self.reader.place(packed.MANIFEST)
        for one in self.manifest.checkpoints:
            word = watch.add(one.text, place)
            if word is not None and word.tree_size != one.tree_size:
                what = f"the checkpoint filed under {one.tree_size} rows is of {word.tree_size}"
                self.checker.tell(problem(Code.COLUMNS, place, what))
        for apart in kept_apart:
            watch.add_apart(apart)
        return watch

    def _meet(self, members: Mapping[str, Any], text: str, place: Place) -> None:
        self.tracks.meet(members, text, place, self.checker.tell)
        self.checker.met(text, members, place, is_packed=True)
        found = counted(text)
        key = None if found is None else self.adder.add(found[0], signed=found[1])
        self.ids.meet(members, key=None if key is None else json.dumps(key))
        ledger_id, seq = members.get("ledger_id"), members.get("seq")
        if isinstance(ledger_id, str) and isinstance(seq, int):
            first, last, count = self.seen.get(ledger_id, (seq, seq, 0))
            self.seen[ledger_id] = (min(first, seq), max(last, seq), count + 1)
        if not self._is_within(members.get("issued_at")):
            self.checker.tell(problem(Code.MANIFEST, place, "was issued outside the period that the manifest names"))

    def _is_within(self, issued_at: object) -> bool:
        return isinstance(issued_at, str) and self.manifest.since <= issued_at < self.manifest.until

    def _check_edges(self) -> None:
        """Check the rows beside the period: they show where it begins and ends, and what in between is not of it."""
        tell, beside = self.checker.tell, self.checker.apart()
        for place, text in self.reader.lines(packed.EDGES):
            members = beside.check_text(text, place)
            if members is None:
                continue
            self.tracks.meet_edge(members, text, place, tell)
            if self._is_within(members.get("issued_at")):
                tell(problem(Code.MANIFEST, place, "was issued within the period, and stands beside it"))
            ledger_id, seq = str(members.get("ledger_id")), members.get("seq")
            self.beside[ledger_id] += 1
            if isinstance(seq, int):
                self.edges[ledger_id] = min(seq, self.edges.get(ledger_id, seq))

    def _check_ledgers(self) -> None:
        """Compare what the manifest counts with what is there, and tell gaps: what lies before a neighbour is none."""
        tell, place = self.checker.tell, self.reader.place(packed.MANIFEST)
        begin = {one: self.edges[one] for one, (first, _, _) in self.seen.items() if self.edges.get(one, first) < first}
        self.tracks.tell_gaps(self.place, tell, begin=begin)
        told = {one.ledger_id: (one.first, one.last, one.count, one.edges) for one in self.manifest.ledgers}
        there = {ledger_id: (*span, self.beside[ledger_id]) for ledger_id, span in self.seen.items()}
        for ledger_id in sorted(told.keys() | there.keys()):
            if told.get(ledger_id) != there.get(ledger_id):
                what = "first seq, last seq, count and edges in the manifest are not those of the rows"
                tell(problem(Code.MANIFEST, place.of(ledger_id=ledger_id), what))
        if self.manifest.is_whole and self.beside:
            what = "calls this the whole ledger, and there are rows beside the period (edges.txt)"
            tell(problem(Code.MANIFEST, place, what))
        if self.manifest.receipts != self.rows:
            what = f"the manifest counts {self.manifest.receipts:,} receipts, and there are {self.rows:,}"
            tell(problem(Code.MANIFEST, place, what))

    def _check_heads(self) -> None:
        tell, place = self.checker.tell, self.reader.place(packed.MANIFEST)
        headless = set(self.seen)
        for head in self.manifest.heads:
            where = place.of(ledger_id=head.ledger_id)
            word = open_head(head.text, self.checker.keys, where, tell)
            if word is None:
                continue
            if (word.ledger_id, word.seq) != (head.ledger_id, head.seq):
                tell(problem(Code.COLUMNS, where, "the manifest says another ledger_id or seq than the head itself"))
            headless.discard(word.ledger_id)
            track = self.tracks.get(word.ledger_id)
            # A row after the period shows that the period's own are all there; the rest of the ledger is not here.
            ends_before = track is None or track.series.newest > self.seen.get(word.ledger_id, (0, 0, 0))[1]
            tell_head(word, track, where, tell, is_part=ends_before)
            tell_not_kept(word.not_kept, where, tell)
        for ledger_id in sorted(headless):
            what = "has no head: whether the newest rows of the period are missing cannot be known"
            tell(problem(Code.HEAD, place.of(ledger_id=ledger_id), what))

    def _check_checkpoints(self, watch: CheckpointWatch) -> None:
        if watch.root != self.manifest.root:
            what = "the Merkle root in the manifest is not that of the rows"
            self.checker.tell(problem(Code.MANIFEST, self.reader.place(packed.MANIFEST), what))
        if self.manifest.is_whole:
            watch.conclude(list(self.tracks))
        else:
            watch.give_up(list(self.tracks), "is of the whole ledger: compare it with the ledger file, not with a part")

    def _check_aggregates(self) -> None:
        for key in self.ids.unanswered():
            self.adder.count_request(Key(*json.loads(key)))
        written = self.reader.small(packed.AGGREGATES)
        if written != "".join(sums_csv(self.adder.totals)).encode():
            what = "does not follow from the receipts beside it, as this version of the software adds them up"
            self.checker.tell(problem(Code.FIGURE, self.reader.place(packed.AGGREGATES), what))

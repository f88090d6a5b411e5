"""One receipt checked: its form, its signature, what its fields say of each other, and every figure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.verify.findings import Code, Finding, counted, note, problem, shown
from vetted_mw.audit.verify.invariants import LARGEST, broken_invariants, field_faults
from vetted_mw.audit.verify.methods import Methods, figure_faults, figures_of, is_taken_as_told
from vetted_mw.audit.verify.opening import Opened, open_text, outside_key_period
from vetted_mw.audit.verify.seen import Counts, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.audit.verify.across import Copies
    from vetted_mw.audit.verify.findings import Place, Tell
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["Checker", "Counts", "identity"]

_MOST_KEYS = 100
"""Keys that are told apart in what is gathered; a forger can name any number."""


class Checker:
    """Checks the receipts of one file.

    Args:
        keys: whose signatures count; None when no key is at hand.
        methods: what figures are recomputed by.
        tell: takes what is found.
        copies: takes the receipts that are to be looked up in the ledgers given beside them; None: nothing is.
    """

    def __init__(
        self, *, keys: Jwks | None, tell: Tell, methods: Methods | None = None, copies: Copies | None = None
    ) -> None:
        self.keys = keys
        self.counts = Counts()
        self.seen = Seen()
        self._tell = tell
        self._methods = methods or Methods()
        self._copies = copies
        self._unknown: dict[str, Finding] = {}
        self._unchecked: Counter[str] = Counter()

    def apart(self) -> Checker:
        """Return one that checks by the same standards and counts apart."""
        return Checker(keys=self.keys, tell=self.tell, methods=self._methods)

    def tell(self, finding: Finding) -> None:
        """Pass a finding on; what is of a key that is not known waits, to be told once for the file."""
        known = self._unknown.get(finding.text)
        if finding.code is not Code.UNKNOWN_KEY or (known is None and len(self._unknown) >= _MOST_KEYS):
            self._tell(finding)
        elif known is None:
            self._unknown[finding.text] = finding
        else:
            self._unknown[finding.text] = replace(known, count=known.count + finding.count)

    def met(self, text: str, members: Mapping[str, Any], place: Place, *, is_packed: bool = False) -> None:
        """Have a receipt looked up, once all is read, in the ledgers that were given beside it."""
        if self._copies is not None:
            self._copies.meet(text, members, place, is_packed=is_packed)

    def check_text(self, text: str, place: Place) -> Mapping[str, Any] | None:
        """Check a receipt as a ledger holds it and return what it says; None when nothing can be made of it."""
        self.counts.receipts += 1
        opened = open_text(text, self.keys, place, self.tell)
        if opened is None:
            return None
        where = place.of(**identity(opened.members))
        self.seen.meet(opened.members, opened.key)
        self._check_origin(opened, where)
        self.check_members(opened.members, where)
        return opened.members

    def check_members(self, members: Mapping[str, Any], place: Place) -> None:
        """Check what a receipt says."""
        faults = field_faults(members)
        for fault in faults:
            self.tell(problem(Code.FIELDS, place, fault))
        if faults:
            return
        for fault in broken_invariants(members):
            self.tell(problem(Code.INVARIANT, place, fault))
        self._check_figures(members, place)

    def conclude(self, place: Place) -> None:
        """Tell, once for the file, what holds for many of its receipts."""
        self._tell_unknown(place)
        for kid, count in sorted(self._unchecked.items()):
            what = (
                f"{counted(count, 'receipt')} signed with key {shown(kid)}, and no key is at hand to check that: give"
                " the issuer's with --jwks FILE (GET /.well-known/vetted/jwks.json), or --config FILE where you are the"
                " issuer"
            )
            self.tell(problem(Code.NO_KEY, place, what, count=count))
        if self.counts.unsigned and self.keys is None:
            what = f"{counted(self.counts.unsigned, 'receipt')} not signed: by whom, and whether changed since, is open"
            self.tell(note(Code.UNSIGNED, place, what, count=self.counts.unsigned))
        if self.counts.without_engine:
            what = (
                f"the energy of {counted(self.counts.without_engine, 'receipt')} is the work of an engine that is not"
                " installed here, and was taken as told: install the extra ecologits (pip install '.[ecologits]')"
            )
            self.tell(note(Code.FIGURE, place, what))

    def unknown(self) -> list[Finding]:
        """Return what waits to be told of keys that are not known."""
        return list(self._unknown.values())

    def _tell_unknown(self, place: Place) -> None:
        for finding in self._unknown.values():
            if finding.count == 1:
                self._tell(finding)
            else:
                what = f"{finding.count:,} times: {finding.text}"
                self._tell(replace(finding, place=replace(place, ledger_id=None, seq=None, query_id=None), text=what))
        self._unknown.clear()

    def _check_origin(self, opened: Opened, place: Place) -> None:
        if not opened.is_signed:
            self.counts.unsigned += 1
            if self.keys is not None:
                self.tell(problem(Code.UNSIGNED, place, "is not signed, though there are keys to sign with"))
        elif self.keys is None:
            self.counts.unchecked += 1
            kid = opened.kid or "without a name"
            self._unchecked[kid if kid in self._unchecked or len(self._unchecked) < _MOST_KEYS else "of others"] += 1
        elif opened.is_verified:
            self.counts.verified += 1
            if opened.key is not None and (
                outside := outside_key_period(opened.key, str(opened.members.get("issued_at")))
            ):
                self.tell(problem(Code.KEY_PERIOD, place, outside))

    def _check_figures(self, members: Mapping[str, Any], place: Place) -> None:
        coefficients = self._methods.of(members["coefficients_digest"])
        if coefficients is None:
            what = "coefficients_digest is of no version at hand, shipped or packed: no figure can be recomputed"
            self.tell(problem(Code.DIGEST, place, what))
            return
        for fault in _digest_faults(members, coefficients):
            self.tell(problem(Code.DIGEST, place, fault))
        figures = figures_of(members, coefficients)
        if figures is None:
            what = "its fields are such that no figure can be computed from them"
            self.tell(problem(Code.FIGURE, place, what))
            return
        if is_taken_as_told(members["energy_source"], coefficients):
            self.counts.without_engine += 1
        for fault in figure_faults(members, figures, coefficients):
            self.tell(problem(Code.FIGURE, place, fault))


def _digest_faults(members: Mapping[str, Any], coefficients: Coefficients) -> Iterator[str]:
    """Say which of the words about the method are not of the version that `coefficients_digest` names."""
    if members["coefficients_digest"] != coefficients.digest_for(members["energy_source"]):
        yield f"coefficients_digest is not that of receipts whose energy_source is {shown(members['energy_source'])}"
    if members["methodology_digest"] != coefficients.methodology_digest:
        yield "methodology_digest is not of the version its coefficients are of"
    for name in ("methodology_version", "water_basis"):
        wanted = getattr(coefficients, name)
        if members[name] != wanted:
            yield f"{name} is {shown(members[name])}, and the version its coefficients are of says {wanted}"


def identity(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a receipt from others, as far as it is of the right type."""
    ledger_id, seq, query_id = members.get("ledger_id"), members.get("seq"), members.get("query_id")
    return {
        "ledger_id": ledger_id if isinstance(ledger_id, str) else None,
        "seq": seq if isinstance(seq, int) and abs(seq) <= LARGEST else None,
        "query_id": query_id if isinstance(query_id, str) else None,
    }

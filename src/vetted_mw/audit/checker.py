"""One receipt checked: its form, its signature, what its fields say of each other, and every figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.findings import Code, note, problem, shown
from vetted_mw.audit.invariants import broken_invariants, field_faults
from vetted_mw.audit.methods import Methods, figure_faults, figures_of, is_taken_as_told
from vetted_mw.audit.opening import Opened, open_text, outside_key_period

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.audit.findings import Place, Tell
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["Checker", "Counts", "identity"]


@dataclass(slots=True, kw_only=True)
class Counts:
    """How much was checked.

    Attributes:
        receipts: receipts read.
        ledgers: ledgers met.
        verified: signatures that verify: of receipts, not of heads.
        unsigned: receipts without a signature.
        unchecked: signatures that no key was at hand for.
        without_engine: receipts whose energy an engine made that is not installed here.
    """

    receipts: int = 0
    ledgers: int = 0
    verified: int = 0
    unsigned: int = 0
    unchecked: int = 0
    without_engine: int = 0

    def add(self, other: Counts) -> None:
        """Add what was checked elsewhere."""
        self.receipts += other.receipts
        self.ledgers += other.ledgers
        self.verified += other.verified
        self.unsigned += other.unsigned
        self.unchecked += other.unchecked
        self.without_engine += other.without_engine


class Checker:
    """Checks the receipts of one file.

    Args:
        keys: whose signatures count; None when no key is at hand.
        methods: what figures are recomputed by.
        tell: takes what is found.
    """

    def __init__(self, *, keys: Jwks | None, tell: Tell, methods: Methods | None = None) -> None:
        self.keys = keys
        self.tell = tell
        self.counts = Counts()
        self._methods = methods or Methods()

    def apart(self) -> Checker:
        """Return one that checks by the same standards and counts apart."""
        return Checker(keys=self.keys, tell=self.tell, methods=self._methods)

    def check_text(self, text: str, place: Place) -> Mapping[str, Any] | None:
        """Check a receipt as a ledger holds it and return what it says; None when nothing can be made of it."""
        self.counts.receipts += 1
        opened = open_text(text, self.keys, place, self.tell)
        if opened is None:
            return None
        where = place.of(**identity(opened.members))
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
        if self.counts.unchecked:
            what = (
                f"{self.counts.unchecked:,} receipts are signed and no key is at hand to check them: give the issuer's"
                " keys with --jwks FILE (GET /.well-known/vetted/jwks.json), or --config FILE where you are the issuer"
            )
            self.tell(problem(Code.NO_KEY, place, what))
        if self.counts.unsigned and self.keys is None:
            what = f"{self.counts.unsigned:,} receipts are not signed: who issued them and whether they changed is open"
            self.tell(note(Code.UNSIGNED, place, what))
        if self.counts.without_engine:
            what = (
                f"the energy of {self.counts.without_engine:,} receipts is the work of an engine that is not installed"
                " here, and was taken as told: pip install 'vetted-mw[ecologits]'"
            )
            self.tell(note(Code.FIGURE, place, what))

    def _check_origin(self, opened: Opened, place: Place) -> None:
        if not opened.is_signed:
            self.counts.unsigned += 1
            if self.keys is not None:
                self.tell(problem(Code.UNSIGNED, place, "is not signed, though there are keys to sign with"))
        elif self.keys is None:
            self.counts.unchecked += 1
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
        "seq": seq if isinstance(seq, int) else None,
        "query_id": query_id if isinstance(query_id, str) else None,
    }

"""A receipt's text with everything already written that the next one of its kind has in common with it. Pure.

Most of a receipt says where it was made, by which signal and on what grounds. A template is cut out of a receipt that
was made the long way, so what it writes can differ from such a one in its holes alone. The figures that go there are
made by the same functions, and written as `msgspec` would. Tests hold the two against each other, byte by byte.
"""

from __future__ import annotations

from math import exp, inf
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.instants import rfc3339_bytes
from vetted_mw.receipts.charging import Z90, charge, tariff_of
from vetted_mw.receipts.parametric import rates_of
from vetted_mw.receipts.telling import pedigrees_of, told_name
from vetted_mw.receipts.written import Filled
from vetted_mw.rounding import significant
from vetted_mw.routing.trace import encode_comparison, signal_form, told_comparison

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.comparison import Elsewhere
    from vetted_mw.receipts.figures import Inputs
    from vetted_mw.receipts.inputs import Tokens
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["Template"]

_ENCODE = msgspec.json.Encoder().encode
_NULL = b"null"


class _Words(msgspec.Struct, gc=False):
    """Those members of a receipt that stand side by side and differ with every answer: its names and its counts."""

    model: str
    upstream_model: str | None
    upstream_response_id: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usage_source: str
    completion_status: str
    calls: int


_WORDS = _Words.__struct_fields__
_BARE = (
    *("query_id", "gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi", "ml_water", "ml_water_ci90_lo", "ml_water_ci90_hi"),
    *("grid_intensity_age_minutes", "energy_wh", "energy_wh_ci90_lo", "energy_wh_ci90_hi", "accelerator_wh"),
    *("gco2e_operational", "gco2e_embodied", "sigma_gco2e", "sigma_water", "sigma_energy"),
    *("default_region_gco2e", "response_digest"),
)
_HOLES = {
    **dict.fromkeys(_BARE, b"%b"),
    **dict.fromkeys(("grid_intensity_requested_at", "issued_at"), b'"%b"'),
    "pedigree_score": b"%.1f",  # from 1 to 5, which this writes as `msgspec` does what is rounded so
}
"""What differs between receipts of one kind beside `_Words`; `Template.fill` has it in the order of the fields."""
_LAST = frozenset({"request_id", "ledger_id", "seq"})
"""What comes after all others, and only where there is one."""
_DOT, _E = b".e"  # as numbers: `in` takes bytes for one first, at ten times the cost
_THREE, _TWELVE = b"%.6g,%.6g,%.6g", b",".join([b"%.6g"] * 12)


class Template:
    """Writes the receipts of one kind: of a model size, region, grid figure, boundary and way of counting, parametric.

    Args:
        sample: a receipt of the kind; what is in its holes does not matter.
        inputs: what it was made from.
        reading: the grid figure it used.
        coefficients: what it rests on.
        elsewhere: how its energy is charged in the default region, where that is another one and can be compared.
    """

    __slots__ = (
        *("_coefficients", "_comparison", "_elsewhere", "_form", "_is_home", "_observed_at", "_pedigrees", "_rates"),
        *("_signal", "_tariff"),
    )

    def __init__(
        self,
        sample: Receipt,
        inputs: Inputs,
        reading: SignalReading,
        coefficients: Coefficients,
        *,
        elsewhere: Elsewhere | None,
    ) -> None:
        self._coefficients = coefficients
        self._form = _form(sample)
        self._rates = rates_of(inputs, coefficients)
        self._tariff = tariff_of(inputs, coefficients)
        self._elsewhere = elsewhere
        self._is_home = sample.default_region == sample.region
        self._comparison = b"" if sample.default_region is None else _comparison(sample.default_region)
        self._signal = signal_form(reading)
        self._observed_at = reading.signal.observed_at
        self._pedigrees = pedigrees_of(
            coefficients, energy_source=sample.energy_source, region=sample.region, is_live=reading.live_eligible
        )

    def fill(self, seen: Observation, tokens: Tokens) -> Filled | None:
        """Write the receipt of one observation of this kind; None where a figure is out of all bounds.

        Args:
            seen: what was observed.
            tokens: of it, those that count.
        """
        found = self._figures(tokens)
        if found is None:
            return None
        figures, (sigma_energy, sigma_gco2e, sigma_water) = found
        at = seen.requested_at
        requested_at = rfc3339_bytes(at)
        age = b"%.1f" % max(0.0, (at - self._observed_at).total_seconds() / 60.0)
        there, compared = self._compared(figures, sigma_energy)
        words = _Words(
            seen.model,
            told_name(seen.upstream_model),
            told_name(seen.upstream_response_id),
            tokens.prompt,
            tokens.cached,
            tokens.completion,
            tokens.source,
            seen.completion_status,
            seen.calls,
        )
        text = self._form % (
            _ENCODE(seen.query_id),
            *figures[:6],
            self._pedigrees.mean(float(figures[10]), float(figures[11])),
            requested_at,
            age,
            _ENCODE(words)[1:-1],
            *figures[6:],
            sigma_gco2e,
            sigma_water,
            sigma_energy,
            there,
            _ENCODE(seen.response_digest),
            rfc3339_bytes(seen.issued_at, milliseconds=True),
            b"" if seen.request_id is None else b',"request_id":%b' % _ENCODE(seen.request_id),
        )
        return Filled(seen, self._coefficients, text, self._signal % (requested_at, age), compared)

    def _figures(self, tokens: Tokens) -> tuple[list[bytes], list[bytes]] | None:
        """Write the twelve figures in the order of the fields, and the sigmas of energy, carbon and water."""
        rates = self._rates
        it_wh, accelerator_wh, embodied, variance = rates.work(tokens.completion, tokens.prompt - tokens.cached)
        charged = charge(it_wh, embodied, variance, rates.host_variance, self._tariff)
        sigmas = _texts(_THREE, charged[3:])
        if _NULL in sigmas:  # no number
            return None
        energy, operational, water = charged[:3]
        gco2e = operational + embodied
        sigma_energy, sigma_gco2e, sigma_water = sigmas  # the bounds rest on what is told of them
        of_energy = exp(Z90 * float(sigma_energy))
        of_gco2e = exp(Z90 * float(sigma_gco2e))
        of_water = exp(Z90 * float(sigma_water))
        high_gco2e, high_water, high_energy = gco2e * of_gco2e, water * of_water, energy * of_energy
        if not high_gco2e + high_water + high_energy < inf:
            return None
        told_gco2e = gco2e, gco2e / of_gco2e, high_gco2e
        told_water = water, water / of_water, high_water
        told_energy = energy, energy / of_energy, high_energy, accelerator_wh, operational, embodied
        return _texts(_TWELVE, told_gco2e + told_water + told_energy), sigmas

    def _compared(self, figures: list[bytes], sigma_energy: bytes) -> tuple[bytes, bytes]:
        """Return `default_region_gco2e`, and the comparison as the trace tells it."""
        gco2e, low, high = figures[0], figures[1], figures[2]
        if self._is_home:
            return gco2e, self._comparison % (gco2e, low, high, b"0.0")
        if self._elsewhere is None:
            return _NULL, _NULL
        found = self._elsewhere.gco2e(float(figures[6]), float(sigma_energy), float(figures[11]))
        lower_by = significant(significant(found.value) - float(gco2e))
        there, low, high = _texts(_THREE, (found.value, found.low, found.high))
        return there, self._comparison % (there, low, high, _ENCODE(lower_by))


def _form(sample: Receipt) -> bytes:
    """Write a receipt with a hole for each value that differs between those of one kind."""
    names = [name for name in sample.__struct_fields__ if name not in _LAST and name not in _WORDS[1:]]
    written = [
        b"%b" if name == _WORDS[0] else b'"%b":%b' % (name.encode(), _HOLES.get(name) or _told(sample, name))
        for name in names
    ]
    return b"{" + b",".join(written) + b"%b}"


def _told(sample: Receipt, name: str) -> bytes:
    return _plain(_ENCODE(getattr(sample, name)))


def _plain(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _comparison(region: str) -> bytes:
    """Write a comparison with a region as the trace tells it, with holes for its four figures."""
    told = encode_comparison(told_comparison("", value=0.0, low=0.0, high=0.0, here=0.0))
    return told.replace(b":0.0", b":%b").replace(b'""', _plain(_ENCODE(region)))


def _texts(form: bytes, values: tuple[float, ...]) -> list[bytes]:
    """Write each value with six significant digits as JSON has it: as `significant` rounds it and `msgspec` writes it.

    Between 0.0001 and 999999 both write the same, whole numbers apart: the rest is written one by one.
    """
    joined = form % values
    texts = joined.split(b",")
    if joined.count(b".") == len(texts) and _E not in joined:
        return texts
    return [
        text if _DOT in text and _E not in text else _ENCODE(significant(value))
        for text, value in zip(texts, values, strict=True)
    ]

"""A receipt's text with everything already written that the next one of its kind has in common with it. Pure.

Most of a receipt says where it was made, by which signal and on what grounds. A template is cut out of a receipt that
was made the long way, so what it writes can differ from such a one in its holes alone, and what goes there is made by
the same functions. Tests hold the two against each other, byte by byte.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.instants import rfc3339_bytes
from vetted_mw.receipts.charging import Z90, charge, tariff_of
from vetted_mw.receipts.parametric import rates_of
from vetted_mw.receipts.telling import pedigrees_of, told_name
from vetted_mw.rounding import minutes, significant
from vetted_mw.routing.trace import SignalText, encode_comparison, told_comparison

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.comparison import Elsewhere
    from vetted_mw.receipts.figures import Inputs
    from vetted_mw.receipts.inputs import Tokens
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["Filled", "Template"]

_ENCODE = msgspec.json.Encoder().encode
_NULL = b"null"
_HOLES = frozenset(
    {
        *("query_id", "gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi", "ml_water", "ml_water_ci90_lo", "ml_water_ci90_hi"),
        *("pedigree_score", "grid_intensity_requested_at", "grid_intensity_age_minutes"),
        *("model", "upstream_model", "upstream_response_id", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("completion_status", "calls", "energy_wh", "energy_wh_ci90_lo", "energy_wh_ci90_hi", "accelerator_wh"),
        *("gco2e_operational", "gco2e_embodied", "sigma_gco2e", "sigma_water", "sigma_energy"),
        *("default_region_gco2e", "response_digest", "issued_at"),
    }
)
"""What differs between receipts of one kind; `Template.fill` has them in the order of the fields."""
_LAST = frozenset({"request_id", "ledger_id", "seq"})
"""What comes after all others, and only where there is one."""
_DOT, _E = b".e"  # as numbers: `in` takes bytes for one first, at ten times the cost
_THREE, _TWELVE = b"%.6g,%.6g,%.6g", b",".join([b"%.6g"] * 12)


class Filled(msgspec.Struct, frozen=True):
    """A receipt's text, and what the trace tells beside it.

    Attributes:
        text: the receipt, as `encode_receipt` writes it.
        signal: the grid figure it used, as the trace tells it.
        compared: the same request in the default region, as the trace tells it; `null` where that is not compared.
    """

    text: bytes
    signal: bytes
    compared: bytes


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
        *("_elsewhere", "_form", "_home", "_observed_at", "_pedigrees", "_rates", "_region", "_signal", "_tariff"),
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
        self._form = _form(sample)
        self._rates = rates_of(inputs, coefficients)
        self._tariff = tariff_of(inputs, coefficients)
        self._elsewhere = elsewhere
        self._region = sample.default_region
        self._home = None if sample.default_region != sample.region else _home(sample.region)
        self._signal = SignalText(reading)
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
        rates = self._rates
        it_wh, accelerator_wh, embodied, variance = rates.work(tokens.completion, tokens.prompt - tokens.cached)
        charged = charge(it_wh, embodied, variance, rates.host_variance, self._tariff)
        energy, operational, water = charged[:3]
        sigma_energy, sigma_gco2e, sigma_water = sigmas = _texts(_THREE, charged[3:])
        if _NULL in sigmas:  # no number
            return None
        of_energy = math.exp(Z90 * float(sigma_energy))
        of_gco2e = math.exp(Z90 * float(sigma_gco2e))
        of_water = math.exp(Z90 * float(sigma_water))
        gco2e = operational + embodied
        high_gco2e, high_water, high_energy = gco2e * of_gco2e, water * of_water, energy * of_energy
        if not high_gco2e + high_water + high_energy < math.inf:
            return None
        told_gco2e = gco2e, gco2e / of_gco2e, high_gco2e
        told_water = water, water / of_water, high_water
        told_energy = energy, energy / of_energy, high_energy, accelerator_wh, operational, embodied
        figures = _texts(_TWELVE, told_gco2e + told_water + told_energy)
        requested_at = rfc3339_bytes(seen.requested_at)
        age = _ENCODE(minutes(max(0.0, (seen.requested_at - self._observed_at).total_seconds() / 60.0)))
        there, compared = self._compared(figures, sigma_energy)
        text = self._form % (
            _ENCODE(seen.query_id),
            *figures[:6],
            _ENCODE(self._pedigrees.score(float(figures[10]), float(figures[11]))),
            requested_at,
            age,
            _ENCODE(seen.model),
            _NULL if seen.upstream_model is None else _ENCODE(told_name(seen.upstream_model)),
            _NULL if seen.upstream_response_id is None else _ENCODE(told_name(seen.upstream_response_id)),
            b"%d" % tokens.prompt,
            b"%d" % tokens.cached,
            b"%d" % tokens.completion,
            _ENCODE(seen.completion_status),
            b"%d" % seen.calls,
            *figures[6:],
            sigma_gco2e,
            sigma_water,
            sigma_energy,
            there,
            _NULL if seen.response_digest is None else _ENCODE(seen.response_digest),
            rfc3339_bytes(seen.issued_at, milliseconds=True),
            b"" if seen.request_id is None else b',"request_id":%b' % _ENCODE(seen.request_id),
        )
        return Filled(text, self._signal.at(requested_at, age), compared)

    def _compared(self, figures: list[bytes], sigma_energy: bytes) -> tuple[bytes, bytes]:
        """Return `default_region_gco2e`, and the comparison as the trace tells it."""
        gco2e, low, high = figures[:3]
        if self._home is not None:
            return gco2e, self._home % (gco2e, low, high)
        if self._elsewhere is None or self._region is None:
            return _NULL, _NULL
        found = self._elsewhere.gco2e(float(figures[6]), float(sigma_energy), float(figures[11]))
        told = told_comparison(self._region, value=found.value, low=found.low, high=found.high, here=float(gco2e))
        return _ENCODE(told.gco2e), encode_comparison(told)


def _form(sample: Receipt) -> bytes:
    """Write a receipt with a hole for each value that differs between those of one kind."""
    written = [
        b'"%b":%b' % (name.encode(), _hole(name) if name in _HOLES else _plain(_ENCODE(getattr(sample, name))))
        for name in sample.__struct_fields__
        if name not in _LAST
    ]
    return b"{" + b",".join(written) + b"%b}"


def _hole(name: str) -> bytes:
    return b'"%b"' if name in {"grid_intensity_requested_at", "issued_at"} else b"%b"


def _plain(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _home(region: str) -> bytes:
    """Write the comparison of a region with itself, with holes for the figure and its bounds."""
    told = told_comparison(region, value=0.0, low=0.0, high=0.0, here=0.0)
    return _plain(encode_comparison(told)).replace(b":0.0", b":%b", 3)


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

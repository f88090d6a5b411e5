"""What makes receipts evidence: the signing key and those before it, the ledger, and where energy was measured."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.configuration import LedgerConfiguration, MeasuredEnergy, RetiredKey, SigningConfiguration
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import PublicKeyError, jwks, read_public_key
from vetted_mw.settings.places import beside
from vetted_mw.settings.secrets import private_key, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.settings.evidence_schema import MeasuredEnergySettings
    from vetted_mw.settings.reading import Written

__all__ = ["ledger_of", "measured_energy_of", "signing_of"]


def signing_of(written: Written, environ: Mapping[str, str]) -> SigningConfiguration:
    """Return what receipts are signed with, every key read and checked.

    Raises:
        ConfigurationError: a key cannot be read or is none, others than its owner may read it, or one is listed twice.
    """
    signing = written.settings.signing
    key = signer = None
    if signing.key is not None:
        from vetted_mw.receipts.signing import load_signer  # noqa: PLC0415 (needed by those who sign)

        key = private_key(signing.key, field="signing.key", file=written.file, environ=environ)
        signer = load_signer(key, alg=signing.alg)
    retired = tuple(
        RetiredKey(jwk=_retired(one.file, number, written), not_before=one.not_before, not_after=one.not_after)
        for number, one in enumerate(signing.retired, start=1)
    )
    jwks(signer, retired)  # none is listed twice
    return SigningConfiguration(key=key, alg=signing.alg, retired=retired)


def _retired(name: str, number: int, written: Written) -> Mapping[str, str]:
    field = "signing.retired"
    data = read_file(
        beside(name, written.file),
        field=field,
        written=name,
        subject=f"entry {number} names",
        remedy="Name a readable file with a public key: PEM or JWK.",
    )
    try:
        return MappingProxyType(read_public_key(data))
    except PublicKeyError as error:
        problem, remedy = error.problem, error.remedy
    raise ConfigurationError(f"the file of entry {number} {problem}", field=field, remedy=remedy)


def ledger_of(written: Written) -> LedgerConfiguration:
    """Return where receipts are kept.

    Raises:
        ConfigurationError: a receipt that cannot be kept is to cost the answer, and there is no place to keep any.
    """
    ledger = written.settings.ledger
    if ledger.policy == "fail_closed" and not ledger.path:
        raise ConfigurationError(
            'is "fail_closed", and there is no ledger.path to keep receipts at.',
            field="ledger.policy",
            remedy='Set ledger.path = "receipts.sqlite3", or take the policy out.',
        )
    return LedgerConfiguration(
        path=str(beside(ledger.path, written.file)) if ledger.path else "",
        durability=ledger.durability,
        policy=ledger.policy,
    )


def measured_energy_of(
    of_region: MeasuredEnergySettings | None, everywhere: MeasuredEnergySettings
) -> MeasuredEnergy | None:
    """Return where a region's answers tell their energy: its own word, empty for nowhere, else what all have."""
    settings = everywhere if of_region is None else of_region
    if not settings.header and not settings.json_path:
        return None
    return MeasuredEnergy(
        header=settings.header, json_path=settings.json_path, unit=settings.unit, scope=settings.scope
    )

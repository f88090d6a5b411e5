"""`vetted-mw receipts verify | show | export | checkpoint | report`: the auditor's tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.cli.command import Command

if TYPE_CHECKING:
    import argparse

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (argparse gives it no public name)

__all__ = ["add_receipts"]


def add_receipts(commands: _Commands) -> None:
    """Add the command and its subcommands."""
    command = commands.add_parser("receipts", help="verify, show, export, add up the receipts of a ledger")
    actions = command.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_verify(actions)
    _add_show(actions)
    _add_export(actions)
    _add_checkpoint(actions)
    _add_report(actions)


def _add_verify(actions: _Commands) -> None:
    action = actions.add_parser(
        "verify",
        help="check signatures, gaps, heads, digests and recompute every figure",
        description="Exit code 0: no problem; 1: problems; 2: something named cannot be read as receipts at all.",
    )
    action.add_argument(
        "path",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="an answer, a saved stream, a receipt, JSON Lines, a ledger, a pack, or a folder of these",
    )
    action.add_argument(
        "--jwks", type=Path, metavar="FILE", help="the issuer's keys: its JWKS, or one public key as PEM"
    )
    action.add_argument(
        "--checkpoint", type=Path, action="append", default=[], metavar="FILE", help="a checkpoint kept elsewhere"
    )
    action.add_argument("--config", type=Path, metavar="FILE", help="take the keys of these settings")
    action.add_argument(
        "--trust-packed-keys", action="store_true", help="take the keys that a pack brings for the issuer's"
    )
    action.add_argument("--json", action="store_true", help="print JSON, for scripts")
    action.set_defaults(run=Command(module="vetted_mw.cli.receipts.verify", name="verify"))


def _add_show(actions: _Commands) -> None:
    action = actions.add_parser("show", help="show one receipt with its units")
    action.add_argument("id", metavar="ID|FILE", help="the receipt's query_id, or a file that holds one receipt")
    _add_ledger(action)
    action.add_argument("--jwks", type=Path, metavar="FILE", help="the issuer's keys (default: those of the settings)")
    action.add_argument("--json", action="store_true", help="print the receipt as it is stored")
    action.set_defaults(run=Command(module="vetted_mw.cli.receipts.show", name="show"))


def _add_export(actions: _Commands) -> None:
    action = actions.add_parser("export", help="pack a period with all that is needed to check it")
    _add_period(action, required=True)
    _add_ledger(action)
    action.add_argument("--jwks", type=Path, metavar="FILE", help="keys to pack (default: those of the settings)")
    action.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="the pack; must not exist yet")
    action.set_defaults(run=Command(module="vetted_mw.cli.receipts.export", name="export"))


def _add_checkpoint(actions: _Commands) -> None:
    action = actions.add_parser("checkpoint", help="fix what the ledger holds now in one line, to be kept elsewhere")
    _add_ledger(action)
    action.add_argument("--unsigned", action="store_true", help="make it without a key: it proves little")
    action.add_argument("--out", type=Path, metavar="FILE", help="write the checkpoint there; must not exist yet")
    action.set_defaults(run=Command(module="vetted_mw.cli.receipts.checkpoint", name="checkpoint"))


def _add_report(actions: _Commands) -> None:
    action = actions.add_parser("report", help="add a period up: per model, region and day")
    action.add_argument(
        "source", nargs="*", type=Path, metavar="SOURCE", help="ledgers and packs: what several hold counts once"
    )
    _add_period(action, required=False)
    _add_ledger(action)
    action.add_argument("--format", choices=["table", "csv", "html"], default="table", help="default: table")
    action.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    action.set_defaults(run=Command(module="vetted_mw.audit.report.command", name="report_command"))


def _add_period(action: argparse.ArgumentParser, *, required: bool) -> None:
    action.add_argument(
        "--from", dest="since", required=required, metavar="DATE", help="first day or instant, UTC, included"
    )
    action.add_argument(
        "--to", dest="until", required=required, metavar="DATE", help="day or instant of the end, UTC, not included"
    )


def _add_ledger(action: argparse.ArgumentParser) -> None:
    action.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger (default: ledger.path of the settings)")
    action.add_argument(
        "--config", type=Path, metavar="FILE", help="settings (default: VETTED_CONFIG, else ./vetted.toml)"
    )

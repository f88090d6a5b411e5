"""The command line: `vetted-mw serve | demo | regions | signals | explain | check | keys | methodology`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.cli.command import Command
from vetted_mw.cli.logs import configure_logging
from vetted_mw.cli.receipts import add_receipts
from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (argparse gives it no public name)

__all__ = ["main"]

_MAX_PORT = 65_535


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 the command's own answer is no, 2 wrong usage or settings."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.run
    if command.level is not None:
        configure_logging(command.level)
    try:
        code = command(arguments)
        sys.stdout.flush()
    except ConfigurationError as error:
        print(f"vetted-mw: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output, `head` say, has seen enough; nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vetted-mw",
        description="Route OpenAI chat completions to EU/EEA regions, and say where, why and at what climate cost.",
    )
    parser.add_argument("--version", action="version", version=f"vetted-mw {version('vetted-mw')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_demo(commands)
    _add_regions(commands)
    _add_signals(commands)
    _add_explain(commands)
    _add_check(commands)
    _add_methodology(commands)
    _add_keys(commands)
    add_receipts(commands)
    return parser


def _add_serve(commands: _Commands) -> None:
    telemetry = "telemetry: as the standard OTEL_* variables say (extra otel), and GET /metrics (extra prometheus)"
    command = commands.add_parser("serve", help="run the stand-alone gateway", epilog=telemetry)
    _add_config(command)
    command.add_argument("--host", help="address to bind (default: server.host, 127.0.0.1)")
    command.add_argument("--port", type=_port, help="port to bind (default: server.port, 8080)")
    command.add_argument("--workers", type=_count, help="processes (default: server.workers, 1)")
    _add_open(command)
    command.set_defaults(run=Command(module="vetted_mw.cli.serve", name="serve", level=None))  # each worker does


def _add_demo(commands: _Commands) -> None:
    command = commands.add_parser("demo", help="run the gateway over embedded model servers and grid signals")
    command.add_argument("--port", type=_port, default=8080, help="port of the gateway on 127.0.0.1 (default: 8080)")
    command.add_argument("--once", action="store_true", help="try everything against itself, print it and stop")
    # One of its regions is down on purpose.
    command.set_defaults(run=Command(module="vetted_mw.cli.demo", name="demo", level=logging.ERROR))


def _add_regions(commands: _Commands) -> None:
    command = commands.add_parser("regions", help="show every region: place, zone, health, grid intensity")
    _add_config(command)
    command.add_argument("--no-probe", action="store_true", help="do not ask the upstreams whether they live")
    _add_json(command)
    command.set_defaults(run=Command(module="vetted_mw.cli.regions", name="regions"))


def _add_signals(commands: _Commands) -> None:
    command = commands.add_parser("signals", help="ask every grid source now and show what it says of each zone")
    _add_config(command)
    command.add_argument("--zone", help="this grid zone alone, as in FR or SE_3")
    command.add_argument("--watch", action="store_true", help="stay, and print whenever something changes")
    command.add_argument("--from-file", type=Path, metavar="FILE", help="read a recorded answer instead of asking")
    command.add_argument("--source", choices=[*SERVICES, "http_json"], help="with --from-file: whose answer it is")
    command.add_argument("--at", metavar="INSTANT", help="with --from-file: the instant of reading (default: now)")
    _add_json(command)
    # It tells of each source itself.
    command.set_defaults(run=Command(module="vetted_mw.cli.signals", name="signals", level=logging.ERROR))


def _add_explain(commands: _Commands) -> None:
    command = commands.add_parser(
        "explain", help="show the decision for a model and options, without calling an upstream"
    )
    _add_config(command)
    command.add_argument("--model", required=True, help="the model the request would name")
    command.add_argument("--region", help="pin: this region or a 503")
    command.add_argument("--secondary-region", help="the pin's documented secondary")
    command.add_argument("--routing", choices=["default", "carbon_aware"], help="which policy orders the regions")
    command.add_argument("--latency-budget-ms", type=int, help="network p95 the region may have at most")
    _add_json(command)
    command.set_defaults(run=Command(module="vetted_mw.cli.explain", name="explain"))


def _add_check(commands: _Commands) -> None:
    command = commands.add_parser("check", help="validate a settings file: names the key and the remedy")
    command.add_argument("file", nargs="?", type=Path, help="settings; the same as --config FILE")
    _add_config(command)
    _add_open(command)
    _add_json(command)
    command.add_argument(
        "--own-sources", action="store_true", help="allow chains to name sources that your application brings"
    )
    command.set_defaults(run=Command(module="vetted_mw.cli.check", name="check"))


def _add_keys(commands: _Commands) -> None:
    keys = commands.add_parser("keys", help="make the key that signs receipts, or show its public half")
    parts = keys.add_subparsers(title="commands", required=True, metavar="COMMAND")
    new = parts.add_parser("new", help="write a new private key into a file that its owner alone may read")
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, PKCS 8 PEM")
    new.add_argument("--force", action="store_true", help="replace the key that is there")
    new.set_defaults(run=Command(module="vetted_mw.cli.keys", name="keys_new"))
    show = parts.add_parser("show", help="show kid and algorithm of every key of the settings, or of a file")
    show.add_argument("file", nargs="?", type=Path, help="a key, private or public, or a JWKS, instead of the settings")
    show.add_argument("--kid", metavar="KID", help="this key alone")
    _add_config(show)
    how = show.add_mutually_exclusive_group()
    how.add_argument("--public", action="store_true", help="print the public key as PEM")
    how.add_argument("--json", action="store_true", help="print the JWKS")
    show.set_defaults(run=Command(module="vetted_mw.cli.keys", name="keys_show"))


def _add_methodology(commands: _Commands) -> None:
    command = commands.add_parser("methodology", help="show every figure receipts rest on, with its source")
    command.add_argument("--section", metavar="NAME", help="this section alone, as in sites, spreads or formulas")
    command.add_argument(
        "--version", dest="methodology_version", metavar="V", help="an earlier methodology (default: the newest)"
    )
    _add_json(command)
    command.set_defaults(run=Command(module="vetted_mw.cli.methodology", name="methodology"))


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="settings (default: VETTED_CONFIG, else ./vetted.toml)"
    )


def _add_open(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--open",
        action="store_true",
        help="allow a non-loopback host without callers: anyone who reaches it may use it",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _MAX_PORT:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {_MAX_PORT}")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return count

"""The settings: one TOML file and the environment, read once, checked whole, frozen. Nothing else reads either."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.configuration import Configuration

__all__ = ["forbid_open_host", "load_configuration", "require_ledger_folder", "require_upstream"]


def load_configuration(
    path: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Configuration:
    """Read the settings file and the environment and return the frozen configuration.

    Args:
        path: the file; else the one `VETTED_CONFIG` names; else `./vetted.toml` if present; else none, which leaves the
            shipped catalogue without any upstream.
        environ: the environment to read instead of the process's.
        overrides: a table of the file's shape that wins over both, for settings an application computes.

    Raises:
        ConfigurationError: they cannot be used; the text names the key, its place and the remedy.
    """
    try:
        return _loaded(path, os.environ if environ is None else environ, overrides)
    except ConfigurationError as error:
        told = ConfigurationError(str(error.args[0]), field=error.field, remedy=error.remedy)
    # Raised out here: what the error grew from, pydantic's say, holds what was written, and so perhaps a key.
    raise told


def _loaded(
    path: Path | str | None, environment: Mapping[str, str], overrides: Mapping[str, object] | None
) -> Configuration:
    # The schema takes as long to import as the gateway does, and whoever passes a configuration never reads one.
    from vetted_mw.settings.faults import placed  # noqa: PLC0415
    from vetted_mw.settings.freezing import frozen  # noqa: PLC0415
    from vetted_mw.settings.reading import read_settings, settings_file  # noqa: PLC0415

    named = None if path is None else Path(path)
    file = settings_file(named, environ=environment, cwd=Path.cwd())
    written = read_settings(file, environ=environment, overrides=overrides)
    try:
        return frozen(written, environ=environment)
    except ConfigurationError as error:
        raise placed(error, written.places) from None


def require_upstream(configuration: Configuration) -> None:
    """Refuse a configuration in which no region can serve.

    Raises:
        ConfigurationError: no region has an upstream.
    """
    if configuration.upstreams:
        return
    place = configuration.source or "no settings file was found"
    raise ConfigurationError(
        f"no region has an upstream ({place}).",
        field="regions",
        remedy="Set regions.CODE.base_url for at least one region of default_order, or try `vetted-mw demo`.",
    )


def require_ledger_folder(configuration: Configuration) -> None:
    """Refuse a ledger that could not be created. A running gateway does not: it says so, and tries again.

    Raises:
        ConfigurationError: there is no folder for its file, it may not be looked into, or a folder is in its place.
    """
    path = configuration.ledger.path
    if not path:
        return
    try:
        is_folder, is_in_folder = Path(path).is_dir(), Path(path).parent.is_dir()
    except OSError as error:
        raise ConfigurationError(
            f"lies in a folder that may not be looked into ({type(error).__name__}).",
            field="ledger.path",
            remedy="Give the user who runs this leave to enter that folder and those above it.",
        ) from None
    if is_folder:
        raise ConfigurationError("is a folder.", field="ledger.path", remedy="Name a file in it.")
    if not is_in_folder:
        raise ConfigurationError(
            "lies in a folder that does not exist.",
            field="ledger.path",
            remedy="Create the folder, or name a file in one that is there.",
        )


def forbid_open_host(host: str, *, callers: bool, is_open: bool) -> None:
    """Refuse to listen beyond this machine without a lock on the door.

    Args:
        host: the address to bind.
        callers: whether `[callers]` are configured.
        is_open: whether the operator said `--open`.

    Raises:
        ConfigurationError: anyone who reaches the host could spend the upstreams' keys.
    """
    if callers or is_open or _is_loopback(host):
        return
    raise ConfigurationError(
        "is reachable from other machines, and no callers are configured: anyone could spend your upstreams' keys.",
        field="server.host",
        remedy="Configure [callers], bind 127.0.0.1, or start with --open.",
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""What the standard `OTEL_*` variables ask to be exported, how and where to, and what of it cannot be had.

Only what has to be known before the SDK is there is read here. Samplers, resources, headers, batches and timeouts are
the SDK's own to read.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["SIGNALS", "Asked", "asking_variables", "listed"]

SIGNALS = ("traces", "metrics", "logs")

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_GRPC, _HTTP = "grpc", "http/protobuf"
_BY_PROTOCOL = {_GRPC: "otlp_proto_grpc", _HTTP: "otlp_proto_http"}
_BY_NAME = {name: protocol for protocol, name in _BY_PROTOCOL.items()}
_DEFAULT_ENDPOINTS = {_GRPC: "http://localhost:4317", _HTTP: "http://localhost:4318"}


class Asked:
    """Reads one signal after another and notes what is wrong.

    Args:
        environ: the process's environment.
        workers: how many processes serve.

    """

    def __init__(self, environ: Mapping[str, str], *, workers: int) -> None:
        self._environ = environ
        self._workers = workers
        self._left_out: dict[str, list[str]] = {}

    @property
    def faults(self) -> tuple[str, ...]:
        """A sentence for each thing that was asked for and cannot be had, naming all signals it is left out of."""
        return tuple(f"{fault}: {listed(signals)} are not exported" for fault, signals in self._left_out.items())

    def exporters(self, signal: str) -> tuple[str, ...]:
        """Return the exporters of `signal` that are asked for and can be had, OTLP's by protocol."""
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        named = self._text(variable) or self._unnamed(signal)
        if named.lower() == "none":
            return ()
        names = [name for name in map(str.strip, named.split(",")) if name]
        return tuple(self._entry(signal, name) for name in names if self._can_be_had(signal, name, variable))

    def target(self, signal: str, exporters: tuple[str, ...]) -> str:
        """Say how and where to `signal` goes; of a URL the origin alone, for the rest of it may hold secrets."""
        return " and ".join(self._otlp_target(signal, name) if _is_otlp(name) else name for name in exporters)

    def _unnamed(self, signal: str) -> str:
        """Return the exporter where no variable names one: OTLP as soon as one says where to.

        Logs have to be asked for themselves: they are on standard error already.
        """
        is_asked = self._text(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or (
            signal != "logs" and self._text(_ENDPOINT)
        )
        return "otlp" if is_asked else "none"

    def _can_be_had(self, signal: str, name: str, variable: str) -> bool:
        fault = self._otlp_fault(signal, name) if _is_otlp(name) else self._other_fault(signal, name, variable)
        if fault:
            signals = self._left_out.setdefault(fault, [])
            signals += [signal] if signal not in signals else []
        return not fault

    def _otlp_fault(self, signal: str, name: str) -> str:
        variable, protocol = self._protocol(signal, name)
        if protocol not in _BY_PROTOCOL:
            return f"{variable} is neither {_HTTP} nor {_GRPC}"
        if not _has_exporter(signal, _BY_PROTOCOL[protocol]):
            return f"OTLP by {protocol} needs opentelemetry-exporter-{_BY_PROTOCOL[protocol].replace('_', '-')}"
        variable, endpoint = self._endpoint(signal, protocol)
        if protocol == _HTTP and not _origin(endpoint):
            return f"{variable} is no http(s) URL"
        return ""

    def _other_fault(self, signal: str, name: str, variable: str) -> str:
        if name == "prometheus" and self._workers > 1:
            return f"{variable}=prometheus opens the same port in each worker, use GET /metrics"
        if not _has_exporter(signal, name):
            return f"{variable} names {name}, for which no exporter is installed"
        return ""

    def _entry(self, signal: str, name: str) -> str:
        """Return what the SDK loads: left to it, plain `otlp` would be gRPC, which the extra does not install."""
        return _BY_PROTOCOL[self._protocol(signal, name)[1]] if _is_otlp(name) else name

    def _otlp_target(self, signal: str, name: str) -> str:
        variable, endpoint = self._endpoint(signal, self._protocol(signal, name)[1])
        return f"OTLP to {_origin(endpoint) or variable}"

    def _protocol(self, signal: str, name: str) -> tuple[str, str]:
        """Return the variable in force and the protocol; without one it is what the extra installs."""
        variable, protocol = self._of_otlp(signal, "PROTOCOL")
        return variable, _BY_NAME.get(name) or protocol or _HTTP

    def _endpoint(self, signal: str, protocol: str) -> tuple[str, str]:
        variable, endpoint = self._of_otlp(signal, "ENDPOINT")
        return variable, endpoint or _DEFAULT_ENDPOINTS[protocol]

    def _of_otlp(self, signal: str, what: str) -> tuple[str, str]:
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"
        variable = own if self._text(own) else f"OTEL_EXPORTER_OTLP_{what}"
        return variable, self._text(variable)

    def _text(self, variable: str) -> str:
        return self._environ.get(variable, "").strip()


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence has them: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def asking_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of the variables that ask for export."""
    names = ["OTEL_CONFIG_FILE", _ENDPOINT]
    for signal in map(str.upper, SIGNALS):
        names += [f"OTEL_{signal}_EXPORTER", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"]
    yield from (name for name in names if environ.get(name, "").strip().lower() not in {"", "none"})


def _is_otlp(name: str) -> bool:
    return name == "otlp" or name in _BY_NAME


def _has_exporter(signal: str, name: str) -> bool:
    return bool(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))


def _origin(url: str) -> str:
    """Return scheme, host and port of an http(s) URL, nothing for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")

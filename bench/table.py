"""Gateways compared in turn, in one run: a row for each load and gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.measuring import Round, round_of

if TYPE_CHECKING:
    from bench.measuring import Load

__all__ = ["compared"]


async def compared(
    loads: tuple[Load, ...], seconds: float, gateways: dict[str, tuple[int, int]], titles: tuple[str, str]
) -> None:
    """Send each load through these gateways in turn, there and back, twice; a row for each."""
    print(f"{titles[0]:<14} {titles[1]:<12} {'requests':>9} {'CPU us/request':>15} {'p50 ms':>8} {'p99 ms':>8}")
    for load in loads:
        seen: dict[str, list[Round]] = {name: [] for name in gateways}
        for gateway in gateways.values():
            await round_of(load, 0.5, *gateway)  # warm-up
        for name in (*gateways, *reversed(gateways)) * 2:
            seen[name].append(await round_of(load, seconds, *gateways[name]))
        for name, rounds in seen.items():
            _show_compared(load, name, rounds)


def _show_compared(load: Load, name: str, rounds: list[Round]) -> None:
    latencies = sorted(latency for one in rounds for latency in one.latencies)
    cpu = sum(one.cpu_seconds for one in rounds) / len(latencies) * 1e6
    p50, p99 = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{load.name:<14} {name:<12} {len(latencies):>9} {cpu:>15.0f} {p50:>8.2f} {p99:>8.2f}", flush=True)

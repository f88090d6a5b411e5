"""A local grid service: speaks for ENTSO-E, Landsnet and Energy-Charts, and breaks on command in every way they do.

POST /faults/{service}/{fault}      `entsoe`, `landsnet`, `energy_charts` or `all`; a fault of `Fault`
GET  /faults                        what is broken, and how often each service was asked
"""

from __future__ import annotations

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vetted_mw.demo import grid_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["SERVICES", "TOKEN", "Fault", "GridService"]

TOKEN = "demo-token"  # noqa: S105 (the demo's own ENTSO-E asks for one as the real one does)
SERVICES = ("entsoe", "landsnet", "energy_charts")

_DAYS = timedelta(days=3)
_HOURS_AHEAD = timedelta(hours=2)
_HUGE_BYTES = 50 * 1024 * 1024
_CHUNK = b" " * 65536
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>\n"
_DOCTYPE = b'<?xml version="1.0"?>\n<!DOCTYPE doc [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>\n<doc>&b;</doc>\n'
_NO_DATA = "No matching data found for Data item Actual Generation per Production Type [16.1.B&amp;C]."


class Fault(StrEnum):
    """How a service may fail; `none` mends it."""

    NONE = "none"
    UNAVAILABLE = "503"
    HTML = "html"
    NOT_FOUND = "404"
    UNAUTHORIZED = "401"
    RATE_LIMITED = "429"
    NO_DATA = "no_data"
    NO_DATA_400 = "no_data_400"
    TRUNCATED = "truncated"
    OLD = "old"
    FUTURE = "future"
    NO_GAPS = "no_gaps"
    ZIP = "zip"
    HUGE = "huge"
    DOCTYPE = "doctype"
    ZEROS = "zeros"
    HANG = "hang"


class GridService:
    """The ASGI app.

    Args:
        now: wall clock, aware UTC.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.faults = dict.fromkeys(SERVICES, Fault.NONE)
        self.requests = dict.fromkeys(SERVICES, 0)
        self._app = Starlette(
            routes=[
                Route("/entsoe/api", self._answering("entsoe", self._entsoe)),
                Route("/landsnet/generation/api/Values", self._answering("landsnet", self._landsnet)),
                Route("/energy_charts/co2eq", self._answering("energy_charts", self._energy_charts)),
                Route("/faults", self._told),
                Route("/faults/{service}/{fault}", self._switched, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    def switch(self, fault: Fault, *services: str) -> None:
        """Break `services`, or all of them, in this way from now on."""
        for service in services or SERVICES:
            self.faults[service] = fault

    def base_urls(self, origin: str) -> dict[str, str]:
        """Return where each service is, for the settings of a gateway."""
        return {
            "entsoe": f"{origin}/entsoe/api",
            "landsnet": f"{origin}/landsnet",
            "energy_charts": f"{origin}/energy_charts",
        }

    def _answering(
        self, service: str, content: Callable[[Request, timedelta, Fault], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.requests[service] += 1
            fault = self.faults[service]
            if fault is Fault.HANG:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
            ahead = {Fault.OLD: -_DAYS, Fault.FUTURE: _HOURS_AHEAD}.get(fault, timedelta(0))
            return _broken(fault) or _spoilt(fault, content(request, ahead, fault))

        return answer

    def _entsoe(self, request: Request, ahead: timedelta, fault: Fault) -> Response:
        if request.query_params.get("securityToken") != TOKEN:
            return Response("Unauthorized. Missing or invalid security token", status_code=401)
        if fault in {Fault.NO_DATA, Fault.NO_DATA_400}:
            status = 200 if fault is Fault.NO_DATA else 400
            return Response(grid_wire.acknowledgement(_NO_DATA), status_code=status, media_type="text/xml")
        eic = request.query_params.get("in_Domain", "")
        document = grid_wire.entsoe(eic, self._now(), ahead=ahead, has_gaps=fault is not Fault.NO_GAPS)
        if document is None:
            text = "Parameter in_Domain is not valid for this area."
            return Response(grid_wire.acknowledgement(text), status_code=400, media_type="text/xml")
        return Response(document, media_type="application/xml")

    def _landsnet(self, _request: Request, ahead: timedelta, fault: Fault) -> Response:
        if fault in {Fault.NO_DATA, Fault.NO_DATA_400}:
            return Response(b"{}", media_type="application/json")
        return Response(grid_wire.landsnet(self._now(), ahead=ahead), media_type="application/json")

    def _energy_charts(self, request: Request, ahead: timedelta, fault: Fault) -> Response:
        if fault in {Fault.NO_DATA, Fault.NO_DATA_400}:
            empty: dict[str, list[None]] = {"unix_seconds": [], "co2eq": [], "co2eq_forecast": []}
            return JSONResponse(empty)
        body = grid_wire.energy_charts(request.query_params.get("country", ""), self._now(), ahead=ahead)
        if body is None:
            text = "'xx' is not the code for an available country. Available countries are: ..."
            return Response(text, status_code=400, media_type="text/plain")
        return Response(body, media_type="application/json")

    async def _told(self, _request: Request) -> Response:
        return JSONResponse(
            {"faults": self.faults, "requests": self.requests, "known": [fault.value for fault in Fault]}
        )

    async def _switched(self, request: Request) -> Response:
        service, fault = request.path_params["service"], request.path_params["fault"]
        if service not in (*SERVICES, "all") or fault not in list(Fault):
            told = {"services": [*SERVICES, "all"], "faults": [fault.value for fault in Fault]}
            return JSONResponse(told, status_code=404)
        self.switch(Fault(fault), *(() if service == "all" else (service,)))
        return await self._told(request)


def _broken(fault: Fault) -> Response | None:  # noqa: PLR0911 (one case per fault)
    """Return the answer of a fault that has nothing to do with what was asked; None for every other."""
    match fault:
        case Fault.UNAVAILABLE:
            return Response(_PAGE, status_code=503, media_type="text/html")
        case Fault.HTML:
            return Response(_PAGE, media_type="text/html")
        case Fault.NOT_FOUND:
            return Response("404 page not found\n", status_code=404, media_type="text/plain")
        case Fault.UNAUTHORIZED:
            return Response("Unauthorized", status_code=401, media_type="text/plain")
        case Fault.RATE_LIMITED:
            return Response("Too many requests", status_code=429, headers={"retry-after": "5"})
        case Fault.HUGE:
            return StreamingResponse(_huge(), media_type="application/octet-stream")
        case Fault.DOCTYPE:
            return Response(_DOCTYPE, media_type="application/xml")
        case _:
            return None


def _spoilt(fault: Fault, response: Response) -> Response:
    """Spoil a good answer."""
    body, kind = bytes(response.body), response.media_type
    match fault:
        case Fault.TRUNCATED:
            return Response(body[: len(body) * 2 // 3], media_type=kind)
        case Fault.ZIP:
            return Response(_zipped(body), media_type="application/zip")
        case Fault.ZEROS:
            return Response(_zeroed(body), media_type=kind)
        case _:
            return response


def _zipped(body: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("answer", body)
    return packed.getvalue()


def _zeroed(body: bytes) -> bytes:
    """Set every quantity to zero, as when a feed is up and its meters are not."""
    text = re.sub(r"<quantity>[^<]*<", "<quantity>0<", body.decode())
    return re.sub(r'"(hydro|geothermal|oil)":[^,}]*', r'"\1":0.0', text).encode()


async def _huge() -> AsyncIterator[bytes]:
    for _ in range(_HUGE_BYTES // len(_CHUNK)):
        yield _CHUNK

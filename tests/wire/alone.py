"""A gateway in a process of its own, run as `vetted-mw serve` runs it, whose memory nobody else uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from typing import TYPE_CHECKING

from wire.clients import PARIS, client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

_MIB = 1_048_576
_SERVER = """
import json, resource, sys
import uvicorn
from vetted_mw import Gateway, VettedProxy, load_configuration

def peak_bytes():
    try:
        status = open("/proc/self/status").read()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes where there is no /proc
    return int(status.split("VmHWM:")[1].split()[0]) * 1024  # unlike ru_maxrss not that of the process it came from

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/peak":
        body = str(peak_bytes()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
    else:
        await proxy(scope, receive, send)

proxy = VettedProxy(Gateway(load_configuration(environ={}, overrides=json.loads(sys.argv[2]))))
uvicorn.run(app, fd=int(sys.argv[1]), http="vetted_mw.cli.heads:BoundedHeads", log_level="warning", access_log=False)
"""


@contextlib.asynccontextmanager
async def gateway_alone(
    *, base_url: str, max_body_bytes: int, drained: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway over one region."""
    settings = {
        "default_order": [PARIS],
        "limits": {"max_body_bytes": max_body_bytes},
        "regions": {PARIS: {"base_url": base_url, "health_path": "", "drained": drained}},
    }
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        fd = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVER, str(fd), json.dumps(settings), pass_fds=[fd]
        )
        try:
            async with client_of(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                yield client
        finally:
            process.terminate()
            await process.wait()


async def peak_mib(client: httpx.AsyncClient) -> float:
    """Return the most memory the process has had so far, in MiB."""
    return int((await client.get("/peak")).text) / _MIB

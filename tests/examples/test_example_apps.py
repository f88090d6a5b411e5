"""The example apps, run as their READMEs say: the same commands, but for the port and the servers behind."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import pytest

from real.processes import Process
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
README_PORT = "8000"


class Readme:
    """The commands a reader is told to type."""

    def __init__(self, example: str) -> None:
        self.folder = EXAMPLES / example
        text = (self.folder / "README.md").read_text(encoding="utf-8")
        block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
        assert block is not None
        self._lines = block.group(1).replace("\\\n", " ").splitlines()

    def words(self, command: str) -> list[str]:
        """Return the words of the one line that runs `command`."""
        (line,) = [line for line in self._lines if command in shlex.split(line)]
        return shlex.split(line)

    def request(self) -> httpx.Request:
        """Return the request the curl line sends."""
        words = self.words("curl")[1:]
        headers, data, urls = [], b"", []
        while words:
            word = words.pop(0)
            if word == "-H":
                name, _, value = words.pop(0).partition(":")
                headers.append((name, value.strip()))
            elif word == "-d":
                data = words.pop(0).encode()
            elif not word.startswith("-"):
                urls.append(word)
        (url,) = urls
        return httpx.Request("POST", f"http://{url}", headers=headers, content=data)


class ExampleProcess(Process):
    """An example app, started by its README's own line."""

    ready_path = "/"

    def __init__(self, readme: Readme, log: Path, settings: Mapping[str, str]) -> None:
        super().__init__(log)
        self.folder = readme.folder
        self._words = readme.words("uvicorn")
        self._settings = settings

    def command(self) -> list[str]:
        """The README's line, on a port of ours, with the uvicorn of this environment."""
        words = self._words[self._words.index("uvicorn") :]
        return [sys.executable, "-m", *(str(self.port) if word == README_PORT else word for word in words)]

    def environment(self) -> dict[str, str]:
        """The README's own variables, and the settings that name our servers."""
        assigned = self._words[: self._words.index("uvicorn")]
        return super().environment() | dict(word.split("=", 1) for word in assigned) | dict(self._settings)


class Visit:
    """A running example and its README's request."""

    def __init__(self, readme: Readme, process: ExampleProcess, client: httpx.AsyncClient) -> None:
        self.client = client
        self._request = readme.request()
        self._origin = process.origin

    async def ask(self, *, drop: Sequence[str] = (), **changed: Any) -> httpx.Response:
        """Send the README's request: without the headers in `drop`, with members of the body changed; None removes one."""
        body = {
            name: value for name, value in (json.loads(self._request.content) | changed).items() if value is not None
        }
        url = str(self._request.url).replace(f"http://localhost:{README_PORT}", self._origin)
        headers = [(n, v) for n, v in self._request.headers.items() if n not in {*drop, "content-length", "host"}]
        content = self._request.content if not changed else json.dumps(body).encode()
        return await self.client.post(url, headers=headers, content=content)


@contextlib.asynccontextmanager
async def visiting(example: str, log: Path, upstreams: Mapping[str, FakeUpstream]) -> AsyncIterator[Visit]:
    """Run an example over `upstreams`."""
    readme = Readme(example)
    settings = {
        f"VETTED_REGIONS__{code.replace('-', '_').upper()}__BASE_URL": upstream.base_url
        for code, upstream in upstreams.items()
    }
    process = ExampleProcess(readme, log, settings)
    await anyio.to_thread.run_sync(process.__enter__)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            yield Visit(readme, process, client)
    finally:
        await anyio.to_thread.run_sync(process.__exit__, None, None, None)


async def test_the_starlette_example_does_what_its_readme_says(tmp_path: Path) -> None:
    """Its curl line is served by the pinned region; strangers are 401, and regions beyond the team's countries 403."""
    async with (
        FakeUpstream(model="demo-8b", text="Bonjour") as paris,
        FakeUpstream(model="demo-8b") as stockholm,
        visiting("starlette_app", tmp_path / "log", {"scaleway-par-1": paris, "atnorth-sto-1": stockholm}) as visit,
    ):
        served = await visit.ask()
        streamed = await visit.ask(stream=True)
        unpinned = await visit.ask(vetted=None)
        stranger = await visit.ask(drop=["authorization"])
        abroad = await visit.ask(vetted={"region": "atnorth-isl-1"})
    told = served.json()
    assert served.status_code == 200
    assert told["choices"][0]["message"]["content"] == "Bonjour"
    assert told["routing_trace"]["route_policy"] == "pinned"
    assert told["receipt"]["region"] == "scaleway-par-1"
    assert told["receipt"]["issuer"] == "Example GmbH"
    assert '"receipt"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert unpinned.json()["routing_trace"]["decision_reason"] == "preferred_available"
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (abroad.status_code, abroad.json()["error"]["code"]) == (403, "region_not_allowed")
    assert (len(paris.requests), len(stockholm.requests)) == (3, 0)


async def test_the_litestar_example_does_what_its_readme_says(tmp_path: Path) -> None:
    """Its curl line is answered by the handler's own call, house style and all, in the pinned region; streams too."""
    async with (
        FakeUpstream(model="demo-8b") as paris,
        FakeUpstream(model="demo-8b", text="God dag") as stockholm,
        visiting("litestar_app", tmp_path / "log", {"scaleway-par-1": paris, "atnorth-sto-1": stockholm}) as visit,
    ):
        served = await visit.ask()
        streamed = await visit.ask(stream=True)
    told = served.json()
    assert served.status_code == 200
    assert told["choices"][0]["message"]["content"] == "God dag"
    assert told["routing_trace"]["decision_mode"] == "pinned"
    assert (told["receipt"]["region"], told["receipt"]["usage_source"]) == ("atnorth-sto-1", "upstream")
    assert streamed.text.count('"receipt"') == 1
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert streamed.headers["x-vetted-region"] == "atnorth-sto-1"
    assert paris.requests == []
    for request in stockholm.requests:
        system, user = request.json()["messages"]
        assert system["content"] == "Answer in one short sentence."
        assert user == {"role": "user", "content": "Hello"}
        assert "vetted" not in request.json()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_the_litestar_example_passes_on_what_its_call_was_told(tmp_path: Path, stream: bool) -> None:
    """A pinned region that is down is the gateway's own 503 for the caller, streamed or not, and asked once."""
    async with (
        FakeUpstream() as stockholm,
        visiting("litestar_app", tmp_path / "log", {"atnorth-sto-1": stockholm}) as visit,
    ):
        stockholm.then(*[FakeAnswer.json({}, status=500)] * 3)
        refused = await visit.ask(stream=stream)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "service_unavailable"
    assert refused.headers["x-should-retry"] == "false"
    assert len(stockholm.requests) == 1


async def test_the_litestar_examples_stream_ends_honestly_when_it_is_cut(tmp_path: Path) -> None:
    """A cut after the first words reaches the example's caller as an error event, without [DONE]."""
    async with (
        FakeUpstream() as stockholm,
        visiting("litestar_app", tmp_path / "log", {"atnorth-sto-1": stockholm}) as visit,
    ):
        stockholm.then(FakeAnswer.stream(chat_frames(done=False)[:3], ending="cut"))
        streamed = await visit.ask(stream=True)
    assert "upstream_stream_cut" in streamed.text
    assert "[DONE]" not in streamed.text

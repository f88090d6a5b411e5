"""The mock upstream as `native/upstream.c` describes it: `python -m bench.slow.upstream PORT`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

_HEAD = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ASKED = re.compile(rb"\[chunks=(\d+) pace_ms=(\d+)\]")
_USAGE = {"prompt_tokens": 250, "completion_tokens": 120, "total_tokens": 370}
_SAME = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench"}
_MODELS: dict[str, object] = {"object": "list", "data": [{"id": "bench", "object": "model"}]}
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            stated = _HEAD.search(head)
            body = await reader.readexactly(int(stated[1]) if stated else 0)
            if b"/chat/completions" not in head:
                _answer(writer, _MODELS if b"/v1/models" in head else {})
            elif re.search(rb'"stream": ?true', body):
                await _stream(writer, body)
            else:
                _answer(writer, _completion(body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _completion(body: bytes) -> dict[str, object]:
    length = re.search(rb"\[bytes=(\d+)", body)
    text = ("answer " * (int(length[1]) if length else 600))[: int(length[1]) if length else 600]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_SAME, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


def _answer(writer: asyncio.StreamWriter, content: dict[str, object]) -> None:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def _stream(writer: asyncio.StreamWriter, body: bytes) -> None:
    asked = _ASKED.search(body)
    chunks, pace = (int(asked[1]), int(asked[2]) / 1000) if asked else (16, 0.0)
    writer.write(_STREAM)
    began = time.monotonic()
    for number in range(chunks):
        if (wait := began + number * pace - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        _event(writer, [{"index": 0, "delta": {"content": f"@{number} {time.monotonic_ns()} "}, "finish_reason": None}])
    _event(writer, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if b'"include_usage"' in body:
        _event(writer, [], usage={**_USAGE, "completion_tokens": chunks, "total_tokens": 250 + chunks})
    _framed(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


def _event(writer: asyncio.StreamWriter, choices: list[object], **more: object) -> None:
    content = {**_SAME, "object": "chat.completion.chunk", "choices": choices, **more}
    _framed(writer, b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n")


def _framed(writer: asyncio.StreamWriter, event: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=4096, limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

"""What is counted of an answer: tokens as an upstream tells them, and the characters a model wrote."""

from __future__ import annotations

from typing import Any, TypeGuard

import msgspec

from vetted_mw.chat.transcript import text_of

__all__ = ["TOO_MANY", "Usage", "is_count", "read_usage", "text_length"]

TOO_MANY = 2**53
"""The first count that not every reader of JSON holds."""
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens as the upstream counted them; `cached_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


def read_usage(usage: object) -> Usage | None:
    """Read a `usage` member; None when a count is missing or cannot be one, so that nothing is ever made up."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not is_count(prompt) or not is_count(completion):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    cached_tokens = min(cached, prompt) if is_count(cached) else 0
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached_tokens)


def text_length(message: object) -> int:
    """Count the characters a model wrote in a message or delta: text, reasoning, refusal, tool names and arguments."""
    if not isinstance(message, dict):
        return 0
    length = 0
    for name in _TEXTS:
        if content := message.get(name):
            length += len(content if isinstance(content, str) else text_of(content))
    for call in _list(message.get("tool_calls")):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            for part in (function.get("name"), function.get("arguments")):
                length += len(part) if isinstance(part, str) else 0
    return length


def is_count(value: object) -> TypeGuard[int]:
    """Whether a decoded value is a whole number, 0 or above, that every reader of JSON holds."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < TOO_MANY


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

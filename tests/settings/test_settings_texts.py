"""Addresses, paths, header and member names: what is taken as it stands, what is tidied, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.settings import header_names, texts


def _region(**keys: Any) -> Any:
    return load_configuration(environ={}, overrides={"regions": {"scaleway-par-1": {"base_url": "http://h/v1"} | keys}})


def _fault(**keys: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        _region(**keys)
    return caught.value


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://api.example.eu/v1", "https://api.example.eu/v1"),
        ("https://api.example.eu/v1/", "https://api.example.eu/v1"),
        ("http://10.0.0.4:8000/v1", "http://10.0.0.4:8000/v1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://api.example.eu/openai/deployments/x", "https://api.example.eu/openai/deployments/x"),
        ("", None),
    ],
)
def test_a_base_url_is_kept_without_its_last_slash(written: str, kept: str | None) -> None:
    """An address up to the API's root is taken; none means no upstream."""
    upstream = _region(base_url=written).upstreams.get("scaleway-par-1")
    assert (upstream and upstream.base_url) == kept


BAD_ADDRESSES = {
    "api.example.eu/v1": "is no",
    "ftp://api.example.eu/v1": "is no",
    "https://": "is no",
    "https:///v1": "is no",
    "https://host:99999/v1": "is no",
    "https://host:0/v1": "is no",
    "https://host:port/v1": "is no",
    "https://[::1/v1": "is no",
    "https://host /v1": "blanks",
    "https://host\\v1": "backslashes",
    "https://hôst/v1": "beyond ASCII",
    "https://host/v1\n": "blanks",
    "https://user:secret@host/v1": "holds credentials",
    "https://user@host/v1": "holds credentials",
    "https://@host/v1": "holds credentials",
    "https://host/v1?api-version=1": "query or fragment",
    "https://host/v1?": "query or fragment",
    "https://host/v1#part": "query or fragment",
}


@pytest.mark.parametrize(("written", "told"), BAD_ADDRESSES.items(), ids=ascii)
def test_a_bad_address_is_refused_for_upstream_and_proxy(written: str, told: str) -> None:
    """No scheme, no host, credentials, a query: each is told, with an address as it should be."""
    for error in (_fault(base_url=written), _fault(proxy=written)):
        assert told in str(error)
        assert "secret" not in str(error)
        assert error.remedy


@pytest.mark.parametrize("end", ["/chat/completions", "/chat/completions/", "/completions", "/models"])
def test_an_endpoint_is_no_base_url(end: str) -> None:
    """The usual mistake, the endpoint instead of the API's root, is told as such."""
    error = _fault(base_url=f"https://host/v1{end}")
    assert error.field == "regions.scaleway-par-1.base_url"
    assert "names an endpoint" in str(error)
    assert "https://api.example.eu/v1" in error.remedy


def test_a_proxy_has_no_path() -> None:
    """A proxy is scheme, host and port; its last slash is tidied away."""
    assert _region(proxy="http://proxy.example:3128/").upstreams["scaleway-par-1"].proxy == "http://proxy.example:3128"
    assert "names a path" in str(_fault(proxy="http://proxy.example:3128/out"))


@pytest.mark.parametrize(
    ("written", "kept"),
    [("/v1/chat/completions", "/v1/chat/completions"), ("/chat/", "/chat"), ("/a.b-c~d/_e", "/a.b-c~d/_e")],
)
def test_a_path_of_ours_is_kept_without_its_last_slash(written: str, kept: str) -> None:
    """Paths match with or without a trailing slash, so they are kept without."""
    assert load_configuration(environ={}, overrides={"paths": [written]}).paths == (kept,)


@pytest.mark.parametrize(
    "written", ["", "/", "v1", "//v1", "/v1//x", "/v1?x", "/v1#x", "/v 1", "/v1\n", "https://h/v1"]
)
def test_what_is_no_path_is_refused(written: str) -> None:
    """A path starts with a slash and has neither query nor blanks nor empty parts."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ={}, overrides={"paths": [written]})
    assert caught.value.field == "paths"
    assert "/v1/chat/completions" in caught.value.remedy


@pytest.mark.parametrize("written", ["", "/", "/health", "/live/"])
def test_a_health_path_may_be_the_root_or_nothing(written: str) -> None:
    """An empty health path turns the probe off; any path of the origin is taken as it stands."""
    assert _region(health_path=written).upstreams["scaleway-par-1"].health_path == written


NEVER = [
    *("Authorization", "cookie", "Set-Cookie", "host", "content-length", "transfer-encoding", "connection", "te"),
    *("accept-encoding", "content-encoding", "traceparent", "tracestate", "baggage", "upgrade", "expect", "trailer"),
    *("b3", "X-B3-TraceId"),
    *("proxy-authorization", "Proxy-Connection", "x-vetted-region", "X-Vetted-Anything", "keep-alive"),
]


@pytest.mark.parametrize("name", NEVER)
def test_a_header_that_never_passes_cannot_be_named(name: str) -> None:
    """Credentials, cookies, framing, trace context and our own headers cannot be let through by a setting."""
    with pytest.raises(ConfigurationError, match="may not name") as caught:
        load_configuration(environ={}, overrides={"forward_headers": ["x-fine", name]})
    assert caught.value.field == "forward_headers"
    assert "entry 2" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "x" * 129, ":path"])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    """A header's name is one token."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ={}, overrides={"forward_headers": [name]})
    assert caught.value.field == "forward_headers"


def test_headers_that_may_pass_are_kept_in_lower_case() -> None:
    """Header names are compared without regard to case."""
    configuration = load_configuration(environ={}, overrides={"forward_headers": ["X-Tenant", "anthropic-beta"]})
    assert configuration.forward_headers == {"x-tenant", "anthropic-beta"}


@pytest.mark.parametrize(
    "name",
    [
        *("id", "object", "created", "model", "choices", "usage", "error", "service_tier", "system_fingerprint"),
        *("routing_trace", "", "0x", "a b", "-x", "é", "x" * 65),
    ],
)
def test_the_receipt_cannot_take_the_name_of_another_member(name: str) -> None:
    """A receipt under a name the answer already has would destroy what stands there."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ={}, overrides={"receipt_key": name})
    assert caught.value.field == "receipt_key"


@pytest.mark.parametrize("name", ["receipt", "vetted", "_x", "x-receipt"])
def test_any_other_name_is_fine_for_the_receipt(name: str) -> None:
    """The hosted service calls it `vetted`; an operator may choose."""
    assert load_configuration(environ={}, overrides={"receipt_key": name}).receipt_key == name


CHECKS = [
    check for module in (header_names, texts) for name in module.__all__ if callable(check := getattr(module, name))
]


@settings(max_examples=200, deadline=None)
@given(
    check=st.sampled_from(CHECKS),
    value=st.text(max_size=20) | st.from_regex(r"https?://[a-z@:?#/\\\[\]0-9.]{0,20}", fullmatch=True),
)
def test_a_text_that_is_kept_is_kept_again(check: Any, value: str) -> None:
    """Each check either refuses in words that do not hold the text, or keeps something it would keep again."""
    try:
        kept = check(value)
    except PydanticCustomError as error:
        context = error.context or {}
        assert context["message"]
        assert context["remedy"]
        assert len(value) < 10 or value not in f"{context}"
    else:
        assert check(kept) == kept

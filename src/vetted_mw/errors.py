"""Every exception of ours.

    VettedError
    ├── ConfigurationError            the operator's settings; raised at start-up, never in a request
    ├── RouteError                    in-app mode: a call that has no route; nothing was sent
    └── AnswerError                   becomes an HTTP answer: knows its status, type, code and param
        ├── InvalidKeyError           401 auth_error
        ├── RequestError              400 validation_error
        │   ├── InvalidJSONError
        │   ├── InvalidRequestError
        │   ├── InvalidOptionError
        │   ├── ConflictingOptionsError
        │   ├── InvalidRegionError
        │   ├── ModelNotAvailableError
        │   ├── BodyTooLargeError         413
        │   ├── BodyTooSlowError          408
        │   └── UnsupportedEncodingError  415
        ├── PolicyError               403 policy_error
        │   ├── RegionNotAllowedError
        │   ├── RoutingNotAllowedError
        │   ├── RegionRequiredError
        │   └── CrossSiteRequestError
        ├── UnavailableError          503 region_unavailable
        │   ├── PinnedUnavailableError
        │   ├── NoRegionAvailableError
        │   └── ShuttingDownError
        ├── SaturatedError            429 rate_limit_error
        ├── InferenceError            502 inference_error
        │   ├── UpstreamFailedError
        │   ├── UpstreamCutError
        │   ├── UpstreamTimeoutError      504
        │   └── UpstreamInvalidError
        ├── NotFoundError             404 validation_error: one of the gateway's own endpoints
        ├── MethodNotAllowedError     405
        ├── CallerFaultError          the upstream's own 4xx, in our envelope
        └── InternalError             500 internal_error

No message holds anything a caller wrote, with one exception named in `CallerFaultError`. Messages tell the reader what
to change.
"""

from __future__ import annotations

__all__ = [
    "AnswerError",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "CallerFaultError",
    "ConfigurationError",
    "ConflictingOptionsError",
    "CrossSiteRequestError",
    "InferenceError",
    "InternalError",
    "InvalidJSONError",
    "InvalidKeyError",
    "InvalidOptionError",
    "InvalidRegionError",
    "InvalidRequestError",
    "MethodNotAllowedError",
    "ModelNotAvailableError",
    "NoRegionAvailableError",
    "NotFoundError",
    "PinnedUnavailableError",
    "PolicyError",
    "RegionNotAllowedError",
    "RegionRequiredError",
    "RequestError",
    "RouteError",
    "RoutingNotAllowedError",
    "SaturatedError",
    "ShuttingDownError",
    "UnavailableError",
    "UnsupportedEncodingError",
    "UpstreamCutError",
    "UpstreamFailedError",
    "UpstreamInvalidError",
    "UpstreamTimeoutError",
    "VettedError",
]


class VettedError(Exception):
    """Base of every exception this package raises on purpose."""


class ConfigurationError(VettedError):
    """The settings cannot be used.

    Attributes:
        field: dotted path of the key at fault (`regions.our-site-1.country`), empty when no single key is.
        remedy: what to change, a sentence.
    """

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.field}: " if self.field else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{place}{super().__str__()}{remedy}"


class RouteError(VettedError):
    """An in-app call has no route: another URL or method, or no request of ours is being answered. Nothing was sent."""


class AnswerError(VettedError):
    """An error the caller gets as an HTTP answer in OpenAI's envelope.

    Attributes:
        status: HTTP status.
        type: `error.type` on the wire.
        code: `error.code` on the wire, always a string.
        param: `error.param`, the request member at fault, or None.
        retry_after: seconds for `Retry-After`, or None when a retry is not known to help.
        retryable: False sends `x-should-retry: false`, so that SDKs do not repeat the request.
    """

    status: int = 500
    type: str = "internal_error"
    code: str = "internal_error"
    default_param: str | None = None
    retryable: bool = True

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param if param is not None else self.default_param
        self.retry_after = retry_after


class InvalidKeyError(AnswerError):
    """No key, or one no caller has."""

    status, type, code = 401, "auth_error", "invalid_api_key"


class RequestError(AnswerError):
    """The request is malformed."""

    status, type, code = 400, "validation_error", "invalid_request"


class InvalidJSONError(RequestError):
    """The body is not one JSON object in UTF-8 with unique members."""

    code = "invalid_json"


class InvalidRequestError(RequestError):
    """The body is JSON, but no chat-completion request."""


class InvalidOptionError(RequestError):
    """An option is unknown, repeated, of the wrong type or out of range."""

    code = "invalid_option"


class ConflictingOptionsError(RequestError):
    """Two options, or body and header, contradict each other."""

    code = "conflicting_options"


class InvalidRegionError(RequestError):
    """The region code is not in the catalogue."""

    code = "invalid_region"
    default_param = "vetted.region"


class ModelNotAvailableError(RequestError):
    """No region the policy looks at lists the model."""

    code = "model_not_available"
    default_param = "model"


class BodyTooLargeError(RequestError):
    """The body, or what it decodes to, is over `limits.max_body_bytes`."""

    status, code = 413, "body_too_large"


class BodyTooSlowError(RequestError):
    """The body did not arrive within `limits.body_read_seconds`."""

    status, code = 408, "body_too_slow"


class UnsupportedEncodingError(RequestError):
    """The request's `Content-Encoding` is neither gzip, deflate nor identity."""

    status, code = 415, "unsupported_encoding"


class PolicyError(AnswerError):
    """The operator's or the caller's policy forbids the request."""

    status, type, code = 403, "policy_error", "region_not_allowed"


class RegionNotAllowedError(PolicyError):
    """Policy excludes the region asked for, or every region of the order."""

    default_param = "vetted.region"


class RoutingNotAllowedError(PolicyError):
    """Policy has carbon-aware routing turned off."""

    code = "routing_not_allowed"
    default_param = "vetted.routing"


class RegionRequiredError(PolicyError):
    """Policy wants every request to name its region."""

    code = "region_required"
    default_param = "vetted.region"


class CrossSiteRequestError(PolicyError):
    """A web page of another site posted a form to the gateway."""

    code = "cross_site_request"


class UnavailableError(AnswerError):
    """No region can serve the request now."""

    status, type, code = 503, "region_unavailable", "no_region_available"


class PinnedUnavailableError(UnavailableError):
    """The pinned region (and its secondary) cannot serve. Never retried elsewhere."""

    code = "service_unavailable"
    default_param = "vetted.region"
    retryable = False


class NoRegionAvailableError(UnavailableError):
    """No region of the policy is eligible; nothing was sent."""


class ShuttingDownError(UnavailableError):
    """The gateway is being stopped: it takes no new request, or could not finish this one in time."""

    code = "shutting_down"


class SaturatedError(AnswerError):
    """Every region that serves the model is saturated."""

    status, type, code = 429, "rate_limit_error", "all_regions_saturated"


class InferenceError(AnswerError):
    """Attempts were made and none succeeded."""

    status, type, code = 502, "inference_error", "upstream_error"


class UpstreamFailedError(InferenceError):
    """The last upstream failed."""


class UpstreamCutError(InferenceError):
    """The upstream's stream ended before its answer did."""

    code = "upstream_stream_cut"


class UpstreamTimeoutError(InferenceError):
    """The last attempt that was sent timed out."""

    status, code = 504, "upstream_timeout"


class UpstreamInvalidError(InferenceError):
    """The last upstream answered with something that is no chat completion."""

    code = "upstream_invalid_response"


class LedgerRefusedError(AnswerError):
    """A receipt could not be kept or read, and the operator wants no answer without one."""

    status, type, code = 503, "internal_error", "ledger_unavailable"

    @classmethod
    def told(cls) -> LedgerRefusedError:
        """Return the error in the words every caller gets."""
        return cls(
            "The gateway cannot keep its receipts now, and answers nothing without. Its log tells the operator why."
        )


class NotFoundError(AnswerError):
    """No such endpoint of the gateway, or no such thing behind it."""

    status, type, code = 404, "validation_error", "not_found"


class MethodNotAllowedError(AnswerError):
    """The endpoint is there, for another method."""

    status, type, code = 405, "validation_error", "method_not_allowed"


class CallerFaultError(AnswerError):
    """An upstream's 4xx about the caller's own request: its status and message, our envelope.

    The message comes from the upstream and may quote the caller, so it goes to the caller only and is never logged.
    """

    def __init__(self, message: str, *, status: int, type: str, code: str, param: str | None = None) -> None:  # noqa: A002 (the wire's word)
        super().__init__(message, param=param)
        self.status = status
        self.type = type
        self.code = code


class InternalError(AnswerError):
    """Our own fault; the message gives no detail away."""

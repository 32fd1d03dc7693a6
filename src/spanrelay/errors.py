"""What a user may catch. Every error of ours derives from `SpanRelayError`."""

from __future__ import annotations


class SpanRelayError(Exception):
    """Base of every error that SpanRelay raises on purpose."""


class ConfigurationError(SpanRelayError, ValueError):
    """A setting is not what it must be; the message names the setting, its value and the remedy."""


class CodecError(SpanRelayError, ValueError):
    """A payload cannot be written in a provider's wire format; the message names what does not fit."""


class GuardrailRejected(SpanRelayError):
    """A guardrail refused a call; nothing was sent.

    Attributes:
        reason: Why, in the guardrail's words.
        name: The guardrail's registered name.
    """

    def __init__(self, reason: str, name: str) -> None:
        if type(reason) is not str:
            # A class of the application's may refuse to be true or false, or to be shown.
            reason = str.__str__(reason) if issubclass(type(reason), str) else reason  # pyright: ignore[reportUnnecessaryIsInstance] - programs give anything
        super().__init__(f"guardrail {name!r} refused the call: {reason or 'no reason given'}")
        self.reason = reason
        self.name = name

    def __reduce__(self) -> tuple[type[GuardrailRejected], tuple[str, str]]:
        # The default rebuilds from the formatted message and loses both fields.
        return (type(self), (self.reason, self.name))


class MiddlewareError(SpanRelayError):
    """Policy code broke its contract (wrong type, no answer, a change too late); the call is refused."""


class TrajectoryUnavailable(SpanRelayError, LookupError):
    """There is no trajectory to return; the message says why, and what to do."""

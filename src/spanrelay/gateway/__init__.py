"""The gateway: a reverse proxy in front of model providers, for programs of any language. Extra `spanrelay[gateway]`.

Each exchange that asks a model is a call of the pipeline: policy, sanitizers, spans, usage and metrics are those that a
Python program has in process. Whatever else is asked passes unread. The way of a request: `serving` listens, `app`
takes it, `upstreams` and `routes` say whose and what it is, `bodies` reads it within `limits`, `exchange` runs it
through the pipeline, `forwarding` sends it and `refusals` answers where nobody else does.

    gateway = start(secret=new_secret())        # a thread of its own, on a free port of 127.0.0.1
    gateway.base_url("openai")                  # http://127.0.0.1:40001/r/<secret>/openai, a client's base URL
    gateway.stop()                              # takes nothing new, waits for what is on its way, then ends

What is recorded goes where `activate()` sends it, or to the `tracer_provider` that `start` is given; policy is what is
in force in the process. `start` takes a `Context` to put every exchange under: a parent span, a session, a user.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spanrelay.gateway.limits import Limits

if TYPE_CHECKING:
    from spanrelay.gateway.serving import Gateway, new_secret, start

__all__ = ["Gateway", "Limits", "new_secret", "start"]


def __getattr__(name: str) -> Any:
    """Import what needs aiohttp once it is asked for: the collector reads bodies as the gateway does, without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("spanrelay.gateway.serving"), name)

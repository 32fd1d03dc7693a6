"""Sees to it that nothing asks a model past SpanRelay in silence: an SDK that no instrumentor is in force for, or HTTP.

While a file's policy is in force it is told once, or refused; else the end of the program says what was not recorded.
What a framework's call of ours sends is guarded there, by whatever it is sent.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import wrapt
from opentelemetry import trace
from opentelemetry.context import get_value
from opentelemetry.sdk.trace import TracerProvider

from spanrelay._guard import guarded
from spanrelay._voice import say
from spanrelay.config import disabled_instrumentations
from spanrelay.errors import ConfigurationError, GuardrailRejected
from spanrelay.imports import on_execution
from spanrelay.installed import version_of
from spanrelay.plugins.demand import demand, end_now
from spanrelay.providers import SDK, SDKS, provider_of_host
from spanrelay.telemetry.front import standing_at
from spanrelay.telemetry.sampling import leaves_none_out

_log = logging.getLogger("spanrelay")

NAME = "policy.on_unguarded"
"""What refuses a call, by name."""

_waiting = False
_waiting_for_http = False
_told: set[str] = set()
"""What was told once: distributions, and providers."""
_used: dict[str, tuple[SDK, int]] = {}
"""By distribution: the SDKs that asked a model unrecorded, each with the process that it did so in."""


def watch(*, http: bool = False) -> None:
    """Look at every SDK that we know of, imported already or not, and with `http` at HTTP clients too.

    Raises:
        ConfigurationError: one is imported already that the files say nothing may pass by.
    """
    global _waiting, _waiting_for_http
    for sdk in SDKS:
        if _must_stop(sdk) and any(_module_of(place) in sys.modules for place in sdk.sends):
            raise ConfigurationError(_unguarded(sdk))
    if not _waiting:
        _waiting = True
        for sdk in SDKS:
            for place in sdk.sends:
                _wait(place, partial(_met, sdk))
    if http and not _waiting_for_http:
        _waiting_for_http = True
        for place, read in _HTTP.items():
            _wait(place, partial(_put, partial(_at_http, read)))


def unguarded() -> Iterator[str]:
    """Say of each SDK and framework that is installed that no instrumentor of ours is there for it."""
    for sdk in SDKS:
        version = version_of(sdk.package)
        if version is not None and not _has_instrumentor(sdk):
            when = f" when it asks a model by {sdk.services[0]}" if sdk.services else ""
            yield f"{sdk.package} {version} is installed, and nothing guards it{when}; {_remedy(sdk)}"


def _wait(place: str, meet: Callable[[str, ModuleType], None]) -> None:
    """Call `meet` with what stands after the colon, and the module, each time that has been executed, or now."""
    name = _module_of(place)
    hook = partial(meet, place.partition(":")[2])
    on_execution(name, hook)
    if name in sys.modules:
        hook(sys.modules[name])


def _module_of(place: str) -> str:
    return place.partition(":")[0]


def _met(sdk: SDK, attribute: str, module: ModuleType) -> None:
    if sdk.package in demand.guarded:
        return
    if _must_stop(sdk):
        end_now(_unguarded(sdk))
    if demand.policy and _has_instrumentor(sdk):
        _told.add(sdk.package)  # `coverage` tells of one that is installed and left out
    _put(partial(_at_sending, sdk), attribute, module)


def _put(wrapper: Callable[..., Any], attribute: str, module: ModuleType) -> None:
    with guarded("looking for SDKs that nothing guards"):
        wrapt.wrap_function_wrapper(module, attribute, wrapper)


def _must_stop(sdk: SDK) -> bool:
    """Whether the import of an SDK is the end. Where an instrumentor is installed, `coverage` sees to that."""
    if not demand.stops_unguarded or sdk.shared or sdk.package in demand.guarded:
        return False
    return not _has_instrumentor(sdk)


def _has_instrumentor(sdk: SDK) -> bool:
    return sdk.ours is not None and version_of(sdk.ours) is not None


def _at_sending(sdk: SDK, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if sdk.package not in demand.guarded and not _in_a_call() and _is_meant(sdk, instance, args, kwargs):
        if demand.policy:
            _tell(sdk.package, _unguarded(sdk))
            _told.add(sdk.provider)
        elif _is_sampled():
            _remember(sdk)
    return wrapped(*args, **kwargs)


def _is_meant(sdk: SDK, client: Any, args: Any, kwargs: Any) -> bool:
    if not sdk.services:
        return True
    service, operation = client.meta.service_model.service_name, (*args, kwargs.get("operation_name"))[0]
    return service in sdk.services or f"{service}.{operation}" in sdk.services


def _in_a_call() -> bool:
    """Whether what is sent was looked at by us: as a model's call it is judged, or it asks no model.

    A tool or the run of an agent says nothing of what it asks of models.
    """
    # The whole pipeline, which most processes never need.
    from spanrelay.pipeline.call import LOOKED_AT_KEY, call_in_flight
    from spanrelay.plugins.policy.names import MODELS

    call = call_in_flight()
    return (call is not None and call.record.kind in MODELS) or get_value(LOOKED_AT_KEY) is not None


def _is_sampled() -> bool:
    """Whether a span that began now might be recorded: nothing is beneath one that the sampler has left out."""
    span = trace.get_current_span()
    context = span.get_span_context()
    return not context.is_valid or context.trace_flags.sampled or span.is_recording()


def _tell(what: str, message: str) -> None:
    """Refuse, or warn the first time.

    Raises:
        GuardrailRejected: the files say that nothing passes by.
    """
    if demand.stops_unguarded:
        raise GuardrailRejected(message, NAME)
    if what not in _told:
        _told.add(what)
        _log.warning("%s", message)


def _unguarded(sdk: SDK) -> str:
    verb = "is used" if sdk.shared or not demand.stops_unguarded else "is imported"
    return (
        f"{sdk.package!r} {verb} and nothing guards it, so the configured policy does not hold for it; {_remedy(sdk)}"
    )


def _remedy(sdk: SDK) -> str:
    if sdk.ours is None:
        return "SpanRelay has no instrumentor for it yet"
    if version_of(sdk.ours) is None:
        return f"pip install {sdk.ours}"
    # A distribution for several SDKs has an instrumentor for each, which is named after its provider.
    if disabled_instrumentations() & {"*", sdk.ours.replace("-", "_"), f"spanrelay_{sdk.provider}"}:
        return f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves {sdk.ours} out"
    return (
        f"{sdk.ours} is installed and not in force: "
        "start the program with opentelemetry-instrument, or call spanrelay.activate()"
    )


# --- HTTP clients ------------------------------------------------------------------------------------------


def _of_connection(instance: Any, args: Any, kwargs: Any) -> tuple[str, str | None]:
    """What `putrequest(method, url)` of the standard library asks for; urllib3, requests and botocore come here."""
    method, url = (*args, kwargs.get("method"), kwargs.get("url"))[:2] if len(args) < 2 else args[:2]
    host = urlsplit(url).hostname or getattr(instance, "_tunnel_host", None) or instance.host
    return method, host


def _of_httpx(instance: Any, args: Any, kwargs: Any) -> tuple[str, str | None]:
    request = args[0] if args else kwargs["request"]
    return request.method, request.url.host


def _of_aiohttp(instance: Any, args: Any, kwargs: Any) -> tuple[str, str | None]:
    method, url = args[:2]
    return method, instance._build_url(url).host


_HTTP = {
    "http.client:HTTPConnection.putrequest": _of_connection,
    "httpx._client:Client.send": _of_httpx,
    "httpx._client:AsyncClient.send": _of_httpx,
    "httpx2._client:Client.send": _of_httpx,
    "httpx2._client:AsyncClient.send": _of_httpx,
    "aiohttp.client:ClientSession._request": _of_aiohttp,
}
"""Where requests pass, and what reads method and host there."""


def _at_http(read: Callable[..., Any], wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if demand.policy:
        host, provider = _asked_by_http(read, instance, args, kwargs)
        if provider is not None and (demand.stops_unguarded or provider not in _told) and not _in_a_call():
            _tell(
                provider,
                f"a request to {host} is made by an HTTP client, which nothing guards, so the configured policy does "
                "not hold for it; use an SDK that SpanRelay instruments, or call it inside spanrelay.run_model",
            )
    return wrapped(*args, **kwargs)


def _asked_by_http(read: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> tuple[str | None, str | None]:
    """Return the host that a request asks, and the provider where a model may be asked there."""
    with guarded("looking where a request goes"):
        method, host = read(instance, args, kwargs)
        return host, provider_of_host(host) if method.upper() == "POST" else None
    return None, None


def on_http(tell: Callable[[str, bool], object]) -> None:
    """From now on call `tell` with each provider that an HTTP client asks, and whether a call of ours does so."""
    for place, read in _HTTP.items():
        _wait(place, partial(_put, partial(_told_of_http, tell, read)))


def _told_of_http(
    tell: Callable[[str, bool], object], read: Callable[..., Any], wrapped: Any, instance: Any, args: Any, kwargs: Any
) -> Any:
    _, provider = _asked_by_http(read, instance, args, kwargs)
    if provider is not None:
        with guarded("telling of a request"):
            tell(provider, _in_a_call())
    return wrapped(*args, **kwargs)


# --- what was not recorded ---------------------------------------------------------------------------------


def _remember(sdk: SDK) -> None:
    if not _used:
        atexit.register(report)
    _used.setdefault(sdk.package, (sdk, os.getpid()))


def report() -> None:
    """Say once what was used in this process, not in one that it was forked from, and recorded by nobody.

    Also a signal and the end of a pool's worker come here, where `atexit` never runs.
    """
    from spanrelay.tracing import heard  # a process in which nothing was recorded has not imported it

    used = [sdk for sdk, process in _used.values() if process == os.getpid() and not _is_recorded(sdk, heard)]
    _used.clear()
    asked = _asked() if used else set[str]()
    for sdk in used:
        if not _is_recorded(sdk, asked):
            say(f"{sdk.package} was used and not recorded; {_remedy(sdk)}{_by_itself(sdk)}")


def _by_itself(sdk: SDK) -> str:
    return f"; {sdk.records_itself} lets it record itself" if sdk.records_itself else ""


def _is_recorded(sdk: SDK, tracers: Iterable[str]) -> bool:
    return any(re.search(sdk.traced, tracer.lower()) for tracer in tracers)


def _asked() -> set[str]:
    """Return the tracers, by name, that may have made spans which nothing of ours has seen.

    Where all are seen, a tracer proves nothing: SDKs ask for one, and make no span of any call.
    """
    found = set[str]()
    with guarded("looking for tracers"):
        for provider in _unseen():
            found |= {str(getattr(scope, "name", scope)) for scope in list(getattr(provider, "_tracers", ()))}
    return found


def _unseen() -> Iterator[TracerProvider]:
    """Yield the providers of this process that make spans which no span processor of ours sees the start of."""
    # Nobody keeps a list of providers, and programs give SDKs some of their own.
    for each in [each for each in gc.get_objects() if issubclass(type(each), TracerProvider)]:
        if standing_at(each._active_span_processor) is None or not leaves_none_out(each.sampler):
            yield each

"""Parameters that every request has, whatever the application asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

from spanrelay.codecs.naming import names_of
from spanrelay.pipeline.middleware import Place, execution_intercept, request_intercept
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.names import model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.settings import Parameters
from spanrelay.records import JSON, ModelRequest


def use_parameters(context: Context, parameters: dict[str, Parameters]) -> None:
    """Set in every request of a model what the first pattern that matches the model says."""
    known = [(pattern_of([glob]), each.told()) for glob, each in parameters.items()]

    def told_of(*names: Any) -> dict[str, JSON] | None:
        named = [normal(plain_text(name) or "") for name in names]
        return next((told for glob, told in known if any(map(glob.match, named))), None)

    def set_parameters(call: Any) -> ModelRequest | None:
        _set_in_batch(call, told_of)
        # Of a deployment in the URL, which is what runs, the body may say another name.
        told = told_of(*names_of(model_of(call)), call.deployment)
        if told is None:
            return None
        _say_once(call, told)
        return _with(call.request, told)

    def send(call: Any) -> Generator[Any, Any, None]:
        # Another intercept may have ended the chain before ours, or changed the model behind it.
        request = set_parameters(call)
        if request is not None and request.parameters != call.request.parameters:
            call.request = request
        yield call

    sets = request_intercept(name="parameters", kinds=["llm"])(set_parameters)
    context.use(sets.standing(Place.REFUSES))
    if context.mode != "observe":  # on trial it would tell the same again
        sends = execution_intercept(name="sent_parameters", kinds=["llm"])
        context.use(sends(send).standing(Place.REFUSES))


def _with(request: ModelRequest, told: dict[str, JSON]) -> ModelRequest:
    # A copy: what one request holds, another intercept may change.
    return replace(request, parameters={**request.parameters, **copy.deepcopy(told)})


def _say_once(call: Any, names: Iterable[str]) -> None:
    """Leave of a parameter that the request says under several keys the one that is read and set: servers differ."""
    _change(call, lambda asked: _said_once(call.codec, asked, names))


def _said_once(codec: Any, asked: Any, names: Iterable[str]) -> Any:
    single = getattr(codec, "single_parameters", None)
    return asked if single is None else single(asked, names)


def _set_in_batch(call: Any, told_of: Callable[..., dict[str, JSON] | None]) -> None:
    """Set what is told of its model in each request of a batch, which is a request of an API of its own."""
    change = getattr(call.codec, "with_requests", None)
    if change is None:
        return
    model = model_of(call)

    def set_in(codec: Any, body: Any) -> Any:
        told = told_of(*names_of(model if body.get("model") is None else body["model"]))
        if told is None:
            return body
        said = _said_once(codec, body, told)
        request = codec.decode_request(said)
        wanted = _with(request, told)
        return said if wanted == request else codec.encode_request(wanted, said)

    _change(call, lambda asked: change(asked, set_in))


def _change(call: Any, change: Callable[[Any], Any]) -> None:
    """Put what `change` makes of a request in its place; of the application's own, which stays as it is, a copy."""
    asked = call.outgoing()
    if change(asked) is not asked:
        copied = call.wire if asked is call.original else asked
        call.wire = dict(change(copied))

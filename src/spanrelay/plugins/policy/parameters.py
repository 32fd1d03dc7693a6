"""Parameters that every request has, whatever the application asks for."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

from spanrelay.codecs.naming import names_of
from spanrelay.pipeline.middleware import Place, execution_intercept, request_intercept
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.names import model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.settings import Parameters
from spanrelay.records import ModelRequest


def use_parameters(context: Context, parameters: dict[str, Parameters]) -> None:
    """Set in every request of a model what the first pattern that matches the model says."""
    known = [(pattern_of([glob]), each.told()) for glob, each in parameters.items()]

    def set_parameters(call: Any) -> ModelRequest | None:
        # Of a deployment in the URL, which is what runs, the body may say another name.
        named = [normal(plain_text(name) or "") for name in (*names_of(model_of(call)), call.deployment)]
        told = next((told for glob, told in known if any(map(glob.match, named))), None)
        if told is None:
            return None
        _say_once(call, told)
        # A copy: what one request holds, another intercept may change.
        return replace(call.request, parameters={**call.request.parameters, **copy.deepcopy(told)})

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


def _say_once(call: Any, names: Iterable[str]) -> None:
    """Leave of a parameter that the request says under several keys the one that is read and set: servers differ."""
    single = getattr(call.codec, "single_parameters", None)
    asked = call.outgoing()
    if single is not None and single(asked, names) is not asked:
        copied = call.wire if asked is call.original else asked
        call.wire = dict(single(copied, names))

"""The plugin `fallback`: when another model is asked, when none is, and what the caller gets then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

import spanrelay
from spanrelay.config import PolicyFile
from spanrelay.errors import GuardrailRejected
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.fallback import FallbackConfig, FallbackPlugin
from spanrelay.plugins.fallback.reasons import reason_of, rest_of
from spanrelay.plugins.loading import Shelf
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, error, reply
from spanrelay_testkit.model_server import ModelServer

FILE = '[plugins.fallback]\nmodels.big = ["small", "tiny"]\nagents.writer = ["poet"]\n'


class Clock(Shelf):
    """What plugins are taken from; this one has a clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def take(self, name: str) -> Any:
        """Return a plugin."""
        return (FallbackPlugin(lambda: self.now), []) if name == "fallback" else super().take(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_force(tmp_path: Path, clock: Clock, capture: Capture) -> Iterator[Callable[[str], None]]:
    """Puts what a file says in force, around OpenAI's SDK."""
    activations: list[Activation] = []
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)

    def put(text: str = FILE) -> None:
        (file := tmp_path / "spanrelay.toml").write_text(text)
        activations.append(Activation([PolicyFile(str(file), "chosen")], clock))
        activations[-1].start()

    yield put
    for activation in activations:
        activation.close()
    instrumentor.uninstrument()


class Models:
    """A server where some models do not answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def __call__(self, request: Request) -> Any:
        return self.answers.get(str(request.model)) or reply(f"{request.model} says so")


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def server(models: Models) -> Iterator[ModelServer]:
    with ModelServer(models) as running:
        yield running


def ask(server: ModelServer, model: str = "big", **options: Any) -> str | None:
    messages: Any = [{"role": "user", "content": "hi"}]
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, **options) as client:
        return client.chat.completions.create(model=model, messages=messages).choices[0].message.content


def asked(server: ModelServer) -> list[Any]:
    found = [request.model for request in server.requests]
    server.requests.clear()
    return found


def told(capture: Capture) -> list[Any]:
    return [
        (event.attributes or {})[names.FALLBACK_REASON]
        for span in capture.of("LLM")
        for event in span.events
        if event.name == names.FALLBACK_EVENT
    ]


def test_the_error_of_the_last_one_is_the_callers(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force()
    models.answers = {"big": error(429), "small": error(429), "tiny": error(503)}
    with pytest.raises(openai.InternalServerError):
        ask(server)
    assert asked(server) == ["big", "small", "tiny"]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_what_another_model_would_not_mend_is_raised(
    server: ModelServer, models: Models, in_force: Any, status: int
) -> None:
    in_force()
    models.answers = {"big": error(status)}
    with pytest.raises(openai.APIStatusError):
        ask(server)
    assert asked(server) == ["big"]


def test_a_model_of_no_order_is_asked_alone(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force()
    models.answers = {"other": error(429)}
    with pytest.raises(openai.RateLimitError):
        ask(server, "other")
    assert asked(server) == ["other"]


def test_an_agent_has_an_order_of_its_own(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force()
    models.answers = {"big": error(429), "other": error(529)}
    with spanrelay.scope("writer"):
        assert [ask(server), ask(server, "other")] == ["poet says so"] * 2
    assert ask(server) == "small says so"
    assert asked(server) == ["big", "poet", "other", "poet", "big", "small"]


def test_silence_is_no_answer(server: ModelServer, models: Models, in_force: Any, capture: Capture) -> None:
    in_force()
    held = threading.Event()
    models.answers = {"big": reply("too late", hold=held, hold_after=0)}
    try:
        assert ask(server, timeout=0.5) == "small says so"
    finally:
        held.set()
    assert told(capture) == ["timeout"]


def test_a_model_rests_as_long_as_it_asked_to(
    server: ModelServer, models: Models, in_force: Any, clock: Clock, capture: Capture
) -> None:
    in_force()
    models.answers = {"big": error(429, headers={"retry-after": "30"})}
    assert ask(server) == "small says so"
    models.answers = {}
    clock.now += 29
    assert ask(server) == "small says so"
    clock.now += 2
    assert ask(server) == "big says so"
    assert asked(server) == ["big", "small", "small", "big"]
    assert told(capture) == ["rate_limit", "resting"]


def test_where_all_rest_the_first_is_asked(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force()
    busy = error(529, headers={"retry-after": "30"})
    models.answers = dict.fromkeys(("big", "small", "tiny"), busy)
    for _ in range(2):
        with pytest.raises(openai.APIStatusError):
            ask(server)
    assert asked(server) == ["big", "small", "tiny", "big"]


def test_only_what_the_file_names_makes_another_be_asked(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force(FILE + 'on = ["overload"]\n')
    models.answers = {"big": error(429)}
    with pytest.raises(openai.RateLimitError):
        ask(server)


@spanrelay.guardrail(name="house", kinds=["llm"])
def no_big_ones_today(call: Any) -> str | None:
    return "big ones are used up" if call.request.model == "big" else None


def test_a_model_that_a_budget_refuses_is_not_asked_but_the_next(
    server: ModelServer, in_force: Any, capture: Capture
) -> None:
    in_force(FILE + 'guardrails = ["house"]\n')
    with spanrelay.use(no_big_ones_today):
        assert ask(server) == "small says so"
    assert asked(server) == ["small"]
    assert told(capture) == ["budget"]


def test_a_session_whose_budget_is_used_up_asks_no_model(server: ModelServer, in_force: Any, capture: Capture) -> None:
    in_force(FILE + "[plugins.policy]\nsession.max_calls = 1\n")
    with spanrelay.scope("program", session="s"):
        ask(server)
        with pytest.raises(GuardrailRejected, match="model calls allowed"):
            ask(server)
    assert asked(server) == ["big"]
    assert told(capture) == ["budget", "budget"]


def test_a_first_model_that_policy_denies_is_not_replaced(server: ModelServer, in_force: Any) -> None:
    in_force(FILE + '[plugins.policy]\nmodels.deny = ["big"]\n')
    with pytest.raises(GuardrailRejected, match="'big' is denied"):
        ask(server)
    assert asked(server) == []


def test_a_model_that_policy_refuses_is_not_asked(server: ModelServer, models: Models, in_force: Any) -> None:
    in_force(FILE + '[plugins.policy]\nmodels.deny = ["small", "tiny"]\n')
    models.answers = {"big": error(429)}
    with pytest.raises(GuardrailRejected, match="'tiny' is denied"):
        ask(server)
    assert asked(server) == ["big"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (SimpleNamespace(response={"Error": {"Code": "ThrottlingException"}}), "rate_limit"),
        (SimpleNamespace(response={"ResponseMetadata": {"HTTPStatusCode": 529}}), "overload"),
        (SimpleNamespace(status_code=504), "timeout"),
        (SimpleNamespace(code=429), "rate_limit"),
        (TimeoutError(), "timeout"),
        (GuardrailRejected("used up", "policy.limits"), "budget"),
        (GuardrailRejected("denied", "policy.models"), None),
        (ValueError(), None),
    ],
)
def test_a_reason_is_read_from_an_error_as_sdks_write_it(given: Any, reason: str | None) -> None:
    assert reason_of(given) == reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "9"}, 9.0),
        ({"retry-after": "1e9"}, 3600.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_how_long_a_model_rests_is_read_from_its_answer(headers: Any, seconds: float | None) -> None:
    assert rest_of(SimpleNamespace(headers=headers)) == seconds  # type: ignore[arg-type] - all that is read of one
    assert rest_of(SimpleNamespace(response={"ResponseMetadata": {"HTTPHeaders": headers}})) == seconds  # type: ignore[arg-type] - as above


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (FallbackConfig(), "models"),
        (FallbackConfig(models={"a": []}), "models.a"),
        (FallbackConfig(agents={"a": [" "]}), "agents.a"),
        (FallbackConfig(models={"a": ["b"]}, on=[]), "on"),
        (FallbackConfig(models={"a": ["b"]}, rest_seconds=-1), "rest_seconds"),
    ],
)
def test_settings_that_make_no_sense_are_told(config: FallbackConfig, key: str) -> None:
    assert [found.key for found in FallbackPlugin().validate(config)] == [key]

"""The plugin `nemo_guardrails`: input and output rails of NeMo Guardrails around every model call.

What the rails cannot judge is refused, and what they block is neither sent nor handed out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

from opentelemetry.context import attach, detach

from spanrelay.errors import ConfigurationError, GuardrailRejected, MiddlewareError
from spanrelay.pipeline.loops import on_own_loop
from spanrelay.pipeline.middleware import Middleware, Place, execution_intercept, guardrail, leaving_out
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.records import Message, ModelRequest, ModelResponse

PACKAGE = "nemoguardrails"

Side: TypeAlias = Literal["input", "output"]
Said: TypeAlias = dict[str, str]
"""A message in the package's form: its `role` and its `content`."""


@dataclass(slots=True)
class NemoGuardrailsConfig:
    """The keys of `[plugins.nemo_guardrails]`.

    `config_path` is a folder or a YAML file, relative to the file that names it; or the configuration is given as
    `config_yaml` and `colang_content`. `input` and `output` switch off rails that the configuration has.
    """

    config_path: str | None = None
    config_yaml: str | None = None
    colang_content: str | None = None
    input: bool = True
    output: bool = True
    kinds: list[Literal["llm", "embedder"]] = field(default_factory=lambda: ["llm"])


class NemoGuardrailsPlugin:
    """Runs NeMo Guardrails rails, which may refuse or rewrite what goes to a model and what comes from it."""

    name = "nemo_guardrails"
    config_model = NemoGuardrailsConfig

    def __init__(self) -> None:
        self._entries: set[Middleware] = set()

    def validate(self, config: NemoGuardrailsConfig) -> list[Diagnostic]:
        """Find a package that is missing, and configurations that name no rails or two."""
        found: list[Diagnostic] = []
        if find_spec(PACKAGE) is None:
            found.append(Diagnostic(f"needs the package {PACKAGE!r}", "pip install 'spanrelay[guardrails]'"))
        if config.config_path is None and config.config_yaml is None:
            found.append(Diagnostic("is missing", "name a folder, or write config_yaml", "config_path"))
        if config.config_path is not None and config.config_yaml is not None:
            found.append(Diagnostic("is set together with config_path", "remove one of them", "config_yaml"))
        if config.colang_content is not None and config.config_yaml is None:
            remedy = "write config_yaml too, or put the flows into a .co file of config_path"
            found.append(Diagnostic("is set without config_yaml", remedy, "colang_content"))
        if not config.input and not config.output:
            found.append(Diagnostic("is off, as output is", "switch one on, or write enabled = false", "input"))
        if not config.kinds:
            found.append(Diagnostic("is an empty list", "name a kind of call, or remove the key", "kinds"))
        return found

    def register(self, context: Context) -> None:
        """Load the rails and put in force the sides that have any."""
        config: NemoGuardrailsConfig = context.config
        rails = _Rails(_loaded(config, context.file), self._entries, context.name)
        before = len(context.entries)
        if config.input and rails.has("input"):
            context.use(guardrail(name="input", kinds=config.kinds)(rails.judge_request))
        if config.output and rails.has("output"):
            declare = execution_intercept(name="output", kinds=config.kinds, buffered=True)
            # Around every other intercept, so that they judge what the application gets.
            context.use(declare(rails.judge_answer).standing(Place.AROUND))
        own = context.entries[before:]
        if not own:
            raise ConfigurationError("the rails configuration has no rails for a side that is switched on")
        self._entries.update(cast("list[Middleware]", own))
        context.on_close(lambda: self._entries.difference_update(cast("list[Middleware]", own)))


# --- loading -----------------------------------------------------------------------------------------------


def _loaded(config: NemoGuardrailsConfig, file: str) -> Any:
    """Return the `LLMRails` of a configuration.

    Raises:
        ConfigurationError: the package refuses it; no text of the configuration is quoted.
    """
    package = import_module(f"{PACKAGE}.rails")  # by name: the package is not there where types are checked
    try:
        rails_config = _rails_config(package.RailsConfig, config, file)
    except Exception as error:
        key = "config_yaml" if config.config_path is None else "config_path"
        raise ConfigurationError(f"{key} cannot be loaded: {_fault(error)}") from error
    if rails_config.colang_version != "1.0":
        raise ConfigurationError(
            f"the rails are in Colang {rails_config.colang_version}, which the package cannot check without a dialog; "
            "write them in Colang 1.0"
        )
    # A block is told by the refusal; as an exception of the package it could not be told apart from a failure.
    rails_config.enable_rails_exceptions = False
    return _where_a_loop_runs(lambda: package.LLMRails(rails_config))


def _rails_config(model: Any, config: NemoGuardrailsConfig, file: str) -> Any:
    if config.config_path is None:
        return model.from_content(yaml_content=config.config_yaml, colang_content=config.colang_content)
    return model.from_path(os.path.join(os.path.dirname(file), os.path.expanduser(config.config_path)))


def _fault(error: Exception) -> str:
    """What is wrong, without what the package quotes of the configuration: any of it may be a secret."""
    if hasattr(error, "problem_mark"):  # of YAML
        mark: Any = cast("Any", error).problem_mark
        return f"{cast('Any', error).problem} at line {mark.line + 1 if mark is not None else '?'}"
    if hasattr(error, "errors"):  # of pydantic
        found: list[Any] = cast("Any", error).errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in found)
    return f"{type(error).__name__}: {error}"


def _where_a_loop_runs(make: Callable[[], Any]) -> Any:
    """Call `make`; the package leaves an event loop of its own behind where none runs."""

    async def made() -> Any:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with closing(asyncio.new_event_loop()) as loop:
            return loop.run_until_complete(made())
    return make()


# --- judging -----------------------------------------------------------------------------------------------


class _Verdict(NamedTuple):
    """What the rails say: why not, or None; and the text that they leave."""

    refusal: str | None
    text: str


class _Rails:
    """The rails of one configuration.

    Args:
        rails: The package's `LLMRails`.
        entries: The plugin's middleware, of all files: none of it runs for calls that the rails make.
        name: What the plugin's middleware is called before the dot.
    """

    def __init__(self, rails: Any, entries: set[Middleware], name: str) -> None:
        self._rails = rails
        self._entries = entries
        self._name = name
        self._types: Any = import_module(f"{PACKAGE}.rails.llm.options").RailType
        self._passed: WeakKeyDictionary[Any, list[Said]] = WeakKeyDictionary()
        """What the rails have made of a call's request: they need not judge their own work."""

    def has(self, side: Side) -> bool:
        """Whether the configuration has rails for `side`."""
        return bool(getattr(self._rails.config.rails, side).flows)

    async def judge_request(self, call: Any) -> str | None:
        """Return the rail that blocks what the user says, or put into the request what the rails leave of it."""
        request: ModelRequest = call.request
        if self._passed.get(call.root) == _conversation(request.messages):
            return None
        messages = list(request.messages)
        for at in _latest(messages):
            verdict = await self._check(_conversation(messages[: at + 1]), "input")
            if verdict.refusal is not None:
                return verdict.refusal
            messages[at] = messages[at].saying(verdict.text)
        if messages != request.messages:
            self._passed[call.root] = _conversation(messages)
            # Not by a request intercept: one verdict says both whether and what, and it is to be seen as a guardrail's.
            call.request = replace(request, messages=messages)
        return None

    def judge_answer(self, call: Any) -> Generator[Any, Any, ModelResponse | None]:
        """Hand out what the rails leave of the answer.

        Raises:
            GuardrailRejected: a rail blocks it.
        """
        response = yield call
        answer = _record(call, response.record)
        messages = list(answer.messages)
        asked = _asked(call.request.messages)
        for at, message in enumerate(messages):
            if message.text:
                verdict = yield self._check([*asked, {"role": "assistant", "content": message.text}], "output")
                if verdict.refusal is not None:
                    raise GuardrailRejected(verdict.refusal, f"{self._name}.output")
                messages[at] = message.saying(verdict.text)
        return None if messages == answer.messages else replace(answer, messages=messages)

    async def _check(self, conversation: list[Said], side: Side) -> _Verdict:
        """Ask the rails about the last message; they see one event loop, whoever calls."""
        token = attach(leaving_out(self._entries))
        try:
            return await on_own_loop(self._checked(conversation, side))
        finally:
            detach(token)

    async def _checked(self, conversation: list[Said], side: Side) -> _Verdict:
        text = conversation[-1]["content"]
        try:
            result = await self._rails.check_async(conversation, rail_types=[self._types(side)])
        except Exception as error:
            raise MiddlewareError(f"the {side} rails of {self._name!r} failed: {type(error).__name__}") from error
        finally:
            self._rails.events_history_cache.clear()  # the package would keep every conversation for ever
        if result.status.value == "blocked":
            return _Verdict(result.rail or f"{side} rails", text)
        if not result.content and text:
            return _Verdict(f"the {side} rails removed the whole text", text)
        return _Verdict(None, result.content)


def _conversation(messages: Sequence[Message]) -> list[Said]:
    """What user and model have said: the rails take neither tools nor empty messages for that."""
    return [
        {"role": message.role, "content": message.text}
        for message in messages
        if message.role in ("user", "assistant") and message.text
    ]


def _latest(messages: Sequence[Message]) -> list[int]:
    """Return where the user speaks since the model has answered last; a call of a tool is no answer."""
    found: list[int] = []
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.role == "user" and message.text:
            found.append(at)
        elif found and message.role == "assistant" and message.text and not message.tool_calls:
            break
    return found[::-1]


def _asked(messages: Sequence[Message]) -> list[Said]:
    """Return the conversation up to what the user has said last, which is what an answer is judged against."""
    conversation = _conversation(messages)
    while conversation and conversation[-1]["role"] != "user":
        conversation.pop()
    return conversation or [{"role": "user", "content": ""}]


def _record(call: Any, answer: Any) -> ModelResponse:
    """Return an answer as a record; one that other middleware made may be the provider's JSON."""
    return answer if isinstance(answer, ModelResponse) else call.codec.decode_response(answer)

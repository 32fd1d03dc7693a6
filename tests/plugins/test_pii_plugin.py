"""The plugin `pii_redaction`: what is recorded is redacted, what is sent and answered is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode

from spanrelay import _guard, mark, run_tool, scope, use
from spanrelay.config import PolicyFile
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.pii_redaction import PiiRedactionConfig, PiiRedactionPlugin, Profile, sanitizers
from spanrelay.plugins.plugin import Diagnostic, Secret
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

EMAIL = "bob@example.com"
EMAILS = '[[plugins.pii_redaction.profiles]]\naction = "redact"\ndetector = "email"\n'

Put = Callable[[str], Activation]


@pytest.fixture
def put(tmp_path: Path, capture: Capture) -> Iterator[Put]:
    """Puts a file in force until the test ends."""
    activations: list[Activation] = []

    def start(text: str) -> Activation:
        path = tmp_path / "spanrelay.toml"
        path.write_text(text)
        activation = Activation([PolicyFile(str(path), "chosen")], shelf())
        activation.start()
        activations.append(activation)
        return activation

    yield start
    for activation in activations:
        activation.close()


def shelf() -> Shelf:
    """A shelf that holds the plugin, whether or not this tree's entry points are installed."""
    made = Shelf()
    made._loaded["pii_redaction"] = PiiRedactionPlugin()
    return made


def told(capture: Capture) -> str:
    """Everything that an exporter can read of the spans."""
    return "".join(span.to_json() for span in capture.spans)


def attributes(capture: Capture) -> dict[str, Any]:
    return dict(capture.span.attributes or {})


def test_an_email_stays_on_the_wire_and_is_in_no_record(put: Put, capture: Capture) -> None:
    put(EMAILS)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        with (
            ModelServer(lambda request: reply(f"I wrote to {EMAIL}")) as server,
            openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        ):
            messages: Any = [{"role": "user", "content": f"write to {EMAIL}"}]
            answer = client.chat.completions.create(model="m", messages=messages, user=EMAIL)
            assert EMAIL in json.dumps(server.requests[0].body)
        assert answer.choices[0].message.content == f"I wrote to {EMAIL}"
    finally:
        instrumentor.uninstrument()
    assert EMAIL not in told(capture)
    assert "write to [REDACTED]" in told(capture)
    assert "I wrote to [REDACTED]" in told(capture)


def test_a_tools_arguments_and_result_are_redacted_in_the_record_alone(put: Put, capture: Capture) -> None:
    put(EMAILS)
    assert run_tool("mail", lambda to: {EMAIL: to}, {"to": EMAIL}) == {EMAIL: EMAIL}
    assert attributes(capture)["gen_ai.tool.call.arguments"] == '{"to":"[REDACTED]"}'
    assert attributes(capture)["gen_ai.tool.call.result"] == '{"[REDACTED]":"[REDACTED]"}'


def test_names_marks_metadata_errors_and_identities_are_redacted(put: Put, capture: Capture) -> None:
    put(EMAILS)
    with pytest.raises(ValueError, match=EMAIL), scope(f"for {EMAIL}", user=EMAIL, metadata={"to": EMAIL}):
        mark(f"sent {EMAIL}", {"to": EMAIL})
        raise ValueError(f"no {EMAIL}")
    assert EMAIL not in told(capture)
    assert capture.span.status.status_code is StatusCode.ERROR
    assert capture.span.status.description == "no [REDACTED]"
    assert attributes(capture)["user.id"] == "[REDACTED]"


def test_spans_of_other_instrumentation_are_redacted(put: Put, capture: Capture) -> None:
    put('[plugins.pii_redaction.builtin]\naction = "redact"\ndetector = ["email", "api_key"]\n')
    from opentelemetry import trace

    provider = capture.provider
    with trace.get_tracer("other", tracer_provider=provider).start_as_current_span(f"to {EMAIL}") as span:
        span.set_attributes({"to": EMAIL, "vendor.api_key": "opaque-value", "kept": "text", "n": 1})
    assert EMAIL not in told(capture)
    assert attributes(capture) == {"to": "[REDACTED]", "vendor.api_key": "[REDACTED]", "kept": "text", "n": 1}


@pytest.mark.parametrize(
    ("switch", "kept"), [("tool_input", "gen_ai.tool.call.arguments"), ("tool_output", "gen_ai.tool.call.result")]
)
def test_a_switch_leaves_its_field_alone(put: Put, capture: Capture, switch: str, kept: str) -> None:
    put(f"[plugins.pii_redaction]\n{switch} = false\n{EMAILS}")
    run_tool("mail", lambda to: to, {"to": EMAIL})
    assert [name for name, value in attributes(capture).items() if EMAIL in str(value)] == [kept]


def test_a_target_is_a_place_in_the_normal_form_of_messages(put: Put, capture: Capture) -> None:
    put(
        "[plugins.pii_redaction]\nhash_key = 'a key for tests only'\n[[plugins.pii_redaction.profiles]]\n"
        'action = "hash"\ntarget_paths = ["/messages/0/parts/0/content"]\n'
    )
    from spanrelay.pipeline.managed import run_model

    message = {"role": "assistant", "content": "fine"}
    answer = {"id": "r", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    request = {"model": "m", "messages": [{"role": "user", "content": text} for text in ("first", "second")]}
    run_model(lambda wire: answer, request)
    contents = [m["parts"][0]["content"] for m in json.loads(attributes(capture)["gen_ai.input.messages"])]
    assert (len(contents[0]), contents[1]) == (64, "second")


def test_a_rule_for_all_strings_without_form_leaves_nothing_readable(put: Put, capture: Capture) -> None:
    def refuse(to: str, n: int) -> None:
        raise ValueError("secret words")

    activation = put('[plugins.pii_redaction.builtin]\naction = "remove"\n')
    assert [found.level for found in activation.diagnostics] == ["warning"]
    with pytest.raises(ValueError, match="secret"):
        run_tool("mail", refuse, {"to": "secret", "n": 1})
    assert "secret" not in told(capture)
    assert attributes(capture)["gen_ai.tool.call.arguments"] == '{"n":1}'
    assert not _guard.losses.take()


def test_sanitizers_can_be_used_for_one_scope(capture: Capture) -> None:
    [redact] = sanitizers(PiiRedactionConfig(profiles=[Profile("mask", "all")]))
    with scope("s") as inside, use(redact, scope=inside):
        run_tool("mail", lambda to: None, {"to": EMAIL})
    run_tool("mail", lambda to: None, {"to": EMAIL})
    arguments = [(span.attributes or {}).get("gen_ai.tool.call.arguments") for span in capture.spans]
    assert [text for text in arguments if text] == ['{"to":"b**@example.com"}', f'{{"to":"{EMAIL}"}}']


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"profiles": []}, "the configuration of 'pii_redaction' must be a PiiRedactionConfig, not a 'dict'; write"),
        (
            PiiRedactionConfig(profiles=[{"action": "mask"}]),
            r"profiles\[0\] of 'pii_redaction' must be a Profile, not a",
        ),
        (
            PiiRedactionConfig(profiles=[Profile("mask", "all"), 5]),
            r"profiles\[1\] of .* must be a Profile, not a 'int'",
        ),
        (PiiRedactionConfig(builtin={"action": "mask"}), "builtin of .* must be a Profile, not a 'dict'"),
        (PiiRedactionConfig(profiles=Profile("mask", "all")), "profiles of .* must be a list, not a 'Profile'"),
    ],
)
def test_what_is_no_profile_is_told(config: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        sanitizers(config)


# --- what is refused ---------------------------------------------------------------------------------------


def diagnose(config: PiiRedactionConfig) -> list[tuple[str, str]]:
    return [(found.level, found.key) for found in PiiRedactionPlugin().validate(config)]


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (PiiRedactionConfig(), [("error", "profiles")]),
        (PiiRedactionConfig(profiles=[Profile("mask", "email")]), []),
        (
            PiiRedactionConfig(Profile("mask", "email"), [Profile("mask", ["mail", "phone"])]),
            [("error", "builtin"), ("error", "profiles[0].detector")],
        ),
        (PiiRedactionConfig(Profile("mask", [])), [("error", "builtin.detector")]),
        (PiiRedactionConfig(Profile("mask")), [("warning", "builtin")]),
        (PiiRedactionConfig(Profile("hash", "all")), [("error", "hash_key")]),
        (PiiRedactionConfig(Profile("hash", "all"), hash_key=Secret("k" * 16)), []),
        (PiiRedactionConfig(Profile("redact")), [("error", "builtin.detector")]),
        (PiiRedactionConfig(Profile("mask", target_paths=["x"])), [("error", "builtin.target_paths")]),
        (
            PiiRedactionConfig(Profile("mask", "email"), [], None, False, False, False, False, False),
            [("warning", "input")],
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(config: PiiRedactionConfig, found: list[tuple[str, str]]) -> None:
    assert diagnose(config) == found


def test_a_file_with_a_wrong_rule_puts_nothing_in_force(put: Put, capture: Capture) -> None:
    with pytest.raises(ConfigurationError, match=r"profiles\[0\]\.detector: unknown detector 'mail'"):
        put(EMAILS.replace("email", "mail"))
    run_tool("mail", lambda to: None, {"to": EMAIL})
    assert EMAIL in told(capture)


def test_an_unknown_action_and_an_unknown_detector_are_told_at_once_with_what_was_meant(put: Put) -> None:
    with pytest.raises(ConfigurationError) as refused:
        put('[plugins.pii_redaction.builtin]\naction = "masc"\ndetector = "emial"\n')
    assert "builtin.action: unknown action 'masc'; did you mean 'mask'?" in str(refused.value)
    assert "builtin.detector: unknown detector 'emial'; did you mean 'email'?" in str(refused.value)


@pytest.mark.parametrize("key", [Secret("too short"), "too short"])
def test_no_diagnostic_holds_the_key(key: Any) -> None:
    config = PiiRedactionConfig(Profile("hash", "mail"), hash_key=key)
    found: list[Diagnostic] = PiiRedactionPlugin().validate(config)
    assert len(found) == 2
    assert "too short" not in "".join(map(str, found)) + repr(config)


@pytest.mark.parametrize("pattern", ["4711(?=-hidden)", "[4711-hidden", "(4711-hidden)?"])
def test_a_refused_pattern_is_not_told(put: Put, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"profiles\[0\]\.pattern") as refused:
        put(f"[[plugins.pii_redaction.profiles]]\naction = 'redact'\npattern = '{pattern}'")
    assert "4711" not in str(refused.value)
    assert "hidden" not in str(refused.value)

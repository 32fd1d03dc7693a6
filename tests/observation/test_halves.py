"""What the SDK's limits cut: half a credential, or half of what a sanitizer looks for, is not recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext

from spanrelay import flush, subscribe, use
from spanrelay._masking import MASK, mask_cut
from spanrelay.observation.halves import without_last_word
from spanrelay.plugins.pii_redaction import PiiRedactionConfig, Profile, sanitizers
from spanrelay.telemetry.front import put_in_front, put_in_front_of_logs
from spanrelay.telemetry.logs import RelayLogProcessor
from spanrelay.telemetry.processor import RelaySpanProcessor

HEX = "0123456789abcdef"
CREDENTIALS = {
    "fc-" + HEX * 2: HEX,
    "AKIA" + "A1B2" * 4: "A1B2A1B",
    "dapi" + HEX * 2: HEX,
    "123456789:AA" + "F" * 33: "FFFFFFF",
    "jina_" + "aB3" * 15: "aB3aB3",
    "sk-" + "a1B2" * 8: "a1B2a1",
    "Bearer " + "a1B2" * 5: "a1B2a1",
    "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "wJalrX",
    "Basic Ym9iOmh1bnRlcjJodW50ZXIy": "h1bnRl",
}
"""Each with a part that is not to stay."""
PERSONAL = {
    "bobby.tables@example.com": "bobby",
    "4111 1111 1111 1111": "4111 11",
    "5500005555555559": "550000",
    "DE89 3704 0044 0532 0130 00": "3704",
    "+1 (415) 555-1234": "415",
    "219-09-9999": "219",
    "550e8400-e29b-41d4-a716-446655440000": "550e8400",
}
BEFORE = "it is "


def attributes_of(cut: str, text: str) -> Iterator[Any]:
    """What is exported of `text` in each place that has a limit, where that cuts it as `cut`."""
    limits = SpanLimits(max_attribute_length=len(cut))
    provider, exporter = TracerProvider(span_limits=limits, shutdown_on_exit=False), InMemorySpanExporter()
    put_in_front(RelaySpanProcessor(), provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    given: dict[str, Any] = {"text": text, "texts": ["", text], "object": {"a": [text]}}
    span = provider.get_tracer("app").start_span("s", attributes=given, links=[Link(SpanContext(1, 2, True), given)])
    span.set_attribute("later", text)
    span.add_event("e", given)
    span.end()
    [ended] = exporter.get_finished_spans()
    yield from (ended.attributes, ended.events[0].attributes, ended.links[0].attributes)

    told = InMemoryLogRecordExporter()
    loggers = LoggerProvider(
        shutdown_on_exit=False, log_record_limits=LogRecordLimits(max_log_record_attribute_length=len(cut))
    )
    put_in_front_of_logs(RelayLogProcessor(), loggers)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(told))
    loggers.get_logger("app").emit(LogRecord(body="b", attributes=given))
    yield told.get_finished_logs()[0].log_record.attributes


def cuts(secrets: dict[str, str]) -> Iterator[Any]:
    for secret, part in secrets.items():
        for length in (secret.index(part) + len(part), len(secret) - 1):
            yield pytest.param(BEFORE + secret[:length], f"{BEFORE}{secret} and more", part, id=secret[:length])


def said_by_the_app(event: str) -> str:
    """An event without its ids and times: three digits of a number that is not to stay turn up in those by chance."""
    fields: dict[str, Any] = json.loads(event)
    return json.dumps({key: value for key, value in fields.items() if not key.endswith("uuid") and key != "timestamp"})


@pytest.mark.parametrize(("cut", "text", "part"), [*cuts(CREDENTIALS)])
def test_what_a_limit_left_of_a_credential_is_masked(cut: str, text: str, part: str) -> None:
    for attributes in attributes_of(cut, text):
        assert part not in str(dict(attributes)), attributes
        assert str(dict(attributes)).count(MASK) >= 3


@pytest.mark.parametrize(("cut", "text", "part"), [*cuts(PERSONAL)])
def test_what_a_limit_left_of_personal_data_is_left_out_where_sanitizers_look_for_it(
    cut: str, text: str, part: str
) -> None:
    heard: list[str] = []
    [redact] = sanitizers(PiiRedactionConfig(profiles=[Profile("redact", "all")]))
    with use(redact), subscribe(lambda event: heard.append(said_by_the_app(event.to_json()))) as listening:
        for attributes in attributes_of(cut, text):
            assert part not in str(dict(attributes)), attributes
            assert "it is" in str(dict(attributes))
        assert flush(10)
        del listening
    assert "it is" in "".join(heard)
    assert part not in "".join(heard)


@pytest.mark.parametrize("length", [14, 18, 25, 30, 50])
def test_a_key_of_two_parts_is_known_by_its_first(length: int) -> None:
    key = "SG." + "a1B2" * 5 + "." + "a1B2" * 10
    assert mask_cut(f"it is {key[:length]}") == f"it is {MASK}"


@pytest.mark.parametrize("cut", ["it is a plain text that was c", "ab", "no word is like sk", "a list-of-things", HEX])
def test_what_a_limit_cut_and_holds_nothing_stays_without_sanitizers(cut: str) -> None:
    assert mask_cut(cut) is cut
    for attributes in attributes_of(cut, cut + "xyz"):
        assert cut in str(dict(attributes))


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("one two thr", "one two "),
        ('{"a":1,"to":"bob@exa', '{"a":1,"to":"'),
        ("https://h/x?a=1&e=bob%40e", "https://h/x?a=1&e="),
        (HEX * 2, HEX * 2),
        ("ends here ", "ends here "),
    ],
)
def test_the_last_word_goes_and_a_digest_stays(cut: str, whole: str) -> None:
    assert without_last_word(cut) == whole

"""The plugin `pricing`: an answer costs what the first catalogue says that knows its model, or nothing is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanrelay import semconv
from spanrelay.cli import main
from spanrelay.config import PolicyFile
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.catalogs import Catalog, ModelPricing, PriceList, Rates, RateSchedule, Tier, cost_of
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.pricing import PricingConfig, PricingPlugin, Source, price, price_response
from spanrelay.records import ModelRequest, ModelResponse, SpanRecord, Usage
from spanrelay.tracing import recording
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.model_server import Usage as Reported

RATES = Rates(2.0, 10.0, 1.0)
USAGE = Usage(1000, 500, cache_read_tokens=400)


def entry(model: str = "m", provider: str = "openai", rates: Rates | None = RATES, **more: Any) -> ModelPricing:
    return ModelPricing(provider, model, rates, **more)


def prices(*entries: ModelPricing) -> PriceList:
    return PriceList([Catalog(list(entries))])


def answered(model: str | None = "m", provider: str | None = "openai", usage: Usage | None = USAGE) -> SpanRecord:
    record = SpanRecord(1, 2, kind="llm", provider=provider, request=ModelRequest("asked"))
    record.response = ModelResponse(model=model, usage=usage)
    return record


# --- what an answer costs ----------------------------------------------------------------------------------


def test_cached_tokens_are_charged_at_their_own_rate() -> None:
    cost = cost_of(USAGE, entry())
    assert cost is not None
    assert (cost.input, cost.cache_read, cost.output, cost.total) == (0.0012, 0.0004, 0.005, 0.0066)
    assert (cost.prompt, cost.currency) == (0.0016, "USD")


def test_tokens_written_to_the_cache_are_not_charged_twice() -> None:
    cost = cost_of(
        Usage(1000, 0, cache_read_tokens=300, cache_write_tokens=200), entry(rates=Rates(2.0, 10.0, 1.0, 4.0))
    )
    assert cost is not None
    assert (cost.input, cost.cache_read, cost.cache_write, cost.total) == (0.001, 0.0003, 0.0008, 0.0021)


def test_tokens_that_the_cache_keeps_for_an_hour_are_charged_at_their_own_rate() -> None:
    rates = Rates(4.0, 10.0, 1.0, 5.0, cache_write_1h_per_million=8.0)
    cost = cost_of(Usage(1000, 0, cache_write_tokens=500, cache_write_1h_tokens=200), entry(rates=rates))
    assert cost is not None
    assert (cost.input, cost.cache_write, cost.total) == (0.002, 0.0031, 0.0051)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(10, 1, cache_read_tokens=5),
        Usage(10, 1, cache_write_tokens=5),
        Usage(10, 1, input_audio_tokens=5),
        Usage(10, 1, output_audio_tokens=1),
    ],
)
def test_there_is_no_total_without_a_price_that_is_needed(usage: Usage) -> None:
    cost = cost_of(usage, entry(rates=Rates(2.0, 10.0)))
    assert cost is not None
    assert (cost.total, cost.prompt) == (None, None)


def test_audio_is_charged_at_its_own_rate() -> None:
    rates = Rates(2.0, 10.0, 1.0, input_audio_per_million=30.0, output_audio_per_million=60.0)
    cost = cost_of(Usage(1000, 500, input_audio_tokens=300, output_audio_tokens=100), entry(rates=rates))
    assert cost is not None
    assert (cost.input, cost.output, cost.total) == (0.0104, 0.01, 0.0204)


def test_where_some_was_audio_and_some_was_cached_there_is_no_total() -> None:
    rates = Rates(2.0, 10.0, 1.0, 1.0, 30.0, 60.0)
    cost = cost_of(Usage(1000, 0, cache_read_tokens=400, input_audio_tokens=300), entry(rates=rates))
    assert cost is not None
    assert cost.total is None


@pytest.mark.parametrize(("prompt", "rate"), [(1, 1.0), (200_000, 1.0), (200_001, 3.0), (999_999, 3.0)])
def test_the_length_of_the_prompt_chooses_the_rates_of_the_whole_request(prompt: int, rate: float) -> None:
    tiers = [Tier(Rates(1.0, 0.0), None, 200_000), Tier(Rates(3.0, 0.0), 200_001)]
    cost = cost_of(Usage(prompt, 0), entry(rates=None, rate_schedule=RateSchedule(tiers)))
    assert cost is not None
    assert cost.total == pytest.approx(prompt * rate / 1e6, abs=1e-12)


def test_a_prompt_of_no_tier_and_an_answer_without_tokens_have_no_cost() -> None:
    schedule = RateSchedule([Tier(RATES, 10, 20)])
    assert cost_of(Usage(9, 1), entry(rates=None, rate_schedule=schedule)) is None
    assert cost_of(Usage(), entry()) is None
    assert cost_of(Usage(0, 0), entry()) is None


counts = st.integers(0, 10**7)
rates = st.floats(0, 1000)


def test_there_is_no_total_where_the_price_of_an_hour_in_the_cache_is_not_known() -> None:
    cost = cost_of(Usage(10, 1, cache_write_tokens=5, cache_write_1h_tokens=1), entry(rates=Rates(2.0, 10.0, 1.0, 4.0)))
    assert cost is not None
    assert (cost.total, cost.prompt) == (None, None)


@given(counts, counts, counts, counts, st.builds(Rates, *[rates] * 7), counts)
def test_a_cost_is_never_negative_and_the_sum_of_its_parts(
    fresh: int, read: int, written: int, hour: int, priced: Rates, output: int
) -> None:
    usage = Usage(fresh + read + written, output, cache_read_tokens=read, cache_write_tokens=written)
    usage.cache_write_1h_tokens = hour
    cost = cost_of(usage, entry(rates=priced))
    if cost is not None:
        parts = (cost.input, cost.output, cost.cache_read, cost.cache_write)
        assert min(parts) >= 0
        assert cost.total == pytest.approx(sum(parts), abs=1e-9)


# --- which entry counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        ("openai", "gpt-5", "gpt-5"),
        ("OpenAI ", "GPT-5", "gpt-5"),
        ("openai", "gpt-5-2026-01-01", "gpt-5"),
        ("azure.ai.openai", "gpt-5", "gpt-5"),
        (None, "openai/gpt-5", "gpt-5"),
        ("litellm", "router/anthropic/claude", "claude"),
        ("other", "shared", "shared"),
        ("openai", "nope", None),
        (None, "", None),
        (None, "/", None),
    ],
)
def test_a_model_is_found_by_provider_alias_and_route(provider: str | None, model: str, found: str | None) -> None:
    known = prices(
        entry("gpt-5", aliases=["gpt-5-2026-01-01"]),
        entry("claude", "anthropic"),
        entry("shared", "a"),
        entry("shared", "b"),
    )
    for _ in range(2):  # the second time it is remembered
        hit = known.find(provider, model)
        assert (hit.model_id if hit is not None else None) == found


def test_a_providers_own_entry_comes_before_one_of_another() -> None:
    known = prices(entry("m", "a", Rates(1.0, 1.0)), entry("m", "b", Rates(2.0, 2.0)))
    assert [known.find(provider, "m").rates.input_per_million for provider in ("a", "b")] == [1.0, 2.0]  # type: ignore[union-attr]


def test_the_first_catalogue_that_knows_a_model_has_its_price() -> None:
    known = PriceList([Catalog([entry("x")]), Catalog([entry("m", rates=Rates(1.0, 0.0))]), Catalog([entry("m")])])
    assert known.price(answered(usage=Usage(1_000_000, 0))).total == 1.0  # type: ignore[union-attr]


def test_the_model_that_was_asked_for_is_looked_up_after_the_one_that_answered() -> None:
    assert prices(entry("asked")).price(answered("answered")) is not None
    assert prices(entry("asked")).price(answered(None)) is not None
    assert prices(entry("m")).price(SpanRecord(1, 2)) is None
    assert prices(entry("m")).price(answered(usage=None)) is None


# --- on records --------------------------------------------------------------------------------------------

Put = Callable[[Any], Activation]


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Put]:
    """Puts sources in force until the test ends."""
    activations: list[Activation] = []

    def start(text: str) -> Activation:
        path = tmp_path / "spanrelay.toml"
        path.write_text(text)
        shelf = Shelf()
        shelf._loaded["pricing"] = PricingPlugin()
        activation = Activation([PolicyFile(str(path), "chosen")], shelf)
        activation.start()
        activations.append(activation)
        return activation

    yield start
    for activation in activations:
        activation.close()
    assert recording.price is None


INLINE = """
[[plugins.pricing.sources]]
type = "inline"
[[plugins.pricing.sources.catalog.entries]]
provider = "openai"
model_id = "m"
rates = { input_per_million = 2, output_per_million = 10, cache_read_per_million = 1 }
"""


def test_a_response_gets_its_cost_and_the_record_that_others_hold_stays(put: Put) -> None:
    put(INLINE)
    record = answered()
    before = record.response
    price_response(record)
    assert before == ModelResponse(model="m", usage=USAGE)
    assert record.response is not None
    assert record.response.usage == replace(USAGE, cost_usd=0.0066, input_cost_usd=0.0016, output_cost_usd=0.005)


def test_what_the_provider_says_wins(put: Put) -> None:
    put(INLINE)
    record = answered(usage=replace(USAGE, cost_usd=0.5))
    price_response(record)
    assert record.response == ModelResponse(model="m", usage=replace(USAGE, cost_usd=0.5))


def test_another_currency_is_told_but_not_recorded_as_dollars(put: Put) -> None:
    put(INLINE.replace('model_id = "m"', 'model_id = "m"\ncurrency = "EUR"'))
    record = answered()
    price_response(record)
    assert record.response == ModelResponse(model="m", usage=USAGE)
    cost = price(record)
    assert cost is not None
    assert (cost.currency, cost.total) == ("EUR", 0.0066)


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_the_cost_is_on_the_span_in_both_dialects_and_read_back(put: Put, dialect: str) -> None:
    put(INLINE)
    record = answered()
    price_response(record)
    attributes = semconv.write(record, dialect, content=True)
    costs = {name: value for name, value in attributes.items() if name.startswith("llm.cost")}
    assert costs == {"llm.cost.total": 0.0066, "llm.cost.prompt": 0.0016, "llm.cost.completion": 0.005}
    read = SpanRecord(1, 2)
    semconv.read({**semconv.write_start(record, dialect), **attributes}, read)
    assert read.response is not None
    assert record.response is not None
    assert read.response.usage == record.response.usage


def test_a_call_through_the_sdk_is_priced_on_its_span(put: Put, capture: Capture) -> None:
    put(INLINE)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        with (
            ModelServer(lambda request: reply("ok", usage=Reported(1000, 500))) as server,
            openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        ):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert (capture.span.attributes or {})["llm.cost.total"] == 0.007
    finally:
        instrumentor.uninstrument()


def test_without_the_plugin_nothing_is_priced() -> None:
    record = answered()
    price_response(record)
    assert record.response == ModelResponse(model="m", usage=USAGE)
    assert price(record) is None


# --- files -------------------------------------------------------------------------------------------------

CATALOG = {
    "version": 1,
    "entries": [
        {
            "provider": "openai",
            "model_id": "m",
            "aliases": ["m-1"],
            "currency": "USD",
            "unit": "per_token",
            "rate_schedule": {
                "type": "prompt_token_threshold",
                "applies_to": "full_request",
                "tiers": [{"max_prompt_tokens": 1000, "rates": {"input_per_million": 2, "output_per_million": 10}}],
            },
            "prompt_cache": {"read_accounting": "separate"},
            "pricing_as_of": "2026-01-01",
            "pricing_source": "a price list",
        }
    ],
}
RATES_TABLE = {"input_per_million": 2, "output_per_million": 10}
FILE = '[[plugins.pricing.sources]]\ntype = "file"\npath = "prices.json"\n'


def test_a_catalogue_in_a_file_stands_beside_the_configuration(put: Put, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(CATALOG))
    put(FILE)
    cost = price(answered("m-1", usage=Usage(1000, 500)))
    assert cost is not None
    assert cost.total == 0.007


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "it is not JSON"),
        ("[]", "is not a JSON object"),
        (json.dumps({"version": 2, "entries": []}), "version of"),
        (json.dumps({"version": 1, "entries": [{"provider": "p", "model_id": "m"}]}), "has no price"),
        (json.dumps({"version": 1, "entries": [{"provider": "p", "modell": "m"}]}), "modell of"),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_told_by_the_command_and_puts_nothing_in_force(
    put: Put, tmp_path: Path, content: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "prices.json").write_text(content)
    with pytest.raises(ConfigurationError, match=words) as refused:
        put(FILE)
    assert recording.price is None
    (tmp_path / "spanrelay.toml").write_text(FILE)
    assert main(["plugins", "validate", str(tmp_path / "spanrelay.toml")]) == 1
    for line in (line for line in capsys.readouterr().out.splitlines() if line.startswith("error")):
        assert "spanrelay.toml: plugins.pricing.sources[0].path: " in line
        assert "ConfigurationError" not in line
        assert "see the plugin's documentation" not in line
        assert line.removeprefix("error: ") in str(refused.value)


def test_a_good_catalogue_beside_the_file_is_valid_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "prices.json").write_text(json.dumps(CATALOG))
    path = tmp_path / "spanrelay.toml"
    path.write_text(FILE)
    assert main(["plugins", "validate", str(path)]) == 0
    told = capsys.readouterr().out
    assert re.search(f"{re.escape(str(path))} +valid$", told, re.MULTILINE)
    assert told.endswith("in force: pricing\n")
    assert main(["plugins", "show", str(path)]) == 0
    assert f"sources[0].path = {str(tmp_path / 'prices.json')!r}" in capsys.readouterr().out


def test_an_entry_has_all_its_faults_told_at_once(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    rates = {"input_per_milion": 1, "output_per_million": -1}
    tier = {"rates": RATES_TABLE, "min_prompt_tokens": 5, "max_prompt_tokens": 4}
    entries = [
        {"provider": " ", "model_id": "m", "rates": rates},
        {"provider": "p", "model": "m", "rate_schedule": {"tiers": [tier]}},
        {"provider": 1, "model_id": "n"},
        "no table",
    ]
    prices.write_text(json.dumps({"version": 2, "entries": entries}))
    [*told] = (each.message for each in PricingPlugin().validate(PricingConfig([Source("file", None, prices)])))
    assert [message.replace(f" of '{prices}'", "") for message in told] == [
        "entries[0].rates.input_per_milion is not known",
        "entries[0].rates.input_per_million is missing",
        "entries[1].model is not known",
        "entries[1].model_id is missing",
        "entries[2].provider is a whole number",
        "entries[3] is text",
        "version is not one of the choices",
        "entries[0].provider is empty",
        "entries[0].rates.output_per_million is not a price",
        "entries[1].rate_schedule.tiers[0].max_prompt_tokens is less than min_prompt_tokens",
        "entries[2] has no price",
    ]


def test_everything_wrong_in_the_sources_is_told_with_its_key(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    bad = entry("m", " ", Rates(-1.0, float("nan")), rate_schedule=RateSchedule([Tier(RATES, 5, 4)]))
    sources = [
        Source("inline"),
        Source("file"),
        Source("file", Catalog([]), missing),
        Source("file", None, missing),
        Source("inline", Catalog([bad, entry(rates=None), entry(), entry("x", aliases=["M"])])),
        Source("inline", Catalog([entry(rates=None, rate_schedule=RateSchedule([]))])),
    ]
    found = [diagnostic.key for diagnostic in PricingPlugin().validate(PricingConfig(sources))]
    entries = "sources[4].catalog.entries"
    assert found == [
        "sources[0].catalog",
        "sources[1].path",
        "sources[2].catalog",
        "sources[2].path",
        "sources[3].path",
        f"{entries}[0].provider",
        f"{entries}[0].rates.input_per_million",
        f"{entries}[0].rates.output_per_million",
        f"{entries}[0].rate_schedule.tiers[0].max_prompt_tokens",
        f"{entries}[1]",
        f"{entries}[2].model_id",
        f"{entries}[3].model_id",
        "sources[5].catalog.entries[0].rate_schedule.tiers",
    ]
    assert [diagnostic.key for diagnostic in PricingPlugin().validate(PricingConfig([]))] == ["sources"]

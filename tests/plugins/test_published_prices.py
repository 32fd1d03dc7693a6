"""Prices that come with the package genai-prices: for each provider, for each kind of token, and below one's own."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.plugins.test_pricing import INLINE, Put, answered, put

from spanrelay.cli import main
from spanrelay.plugins import pricing
from spanrelay.plugins.pricing import price, price_response
from spanrelay.providers import provider_of_host
from spanrelay.records import SpanRecord, Usage

if find_spec("genai_prices") is None:
    pytest.skip("genai-prices is for Python 3.11 and newer", allow_module_level=True)

from spanrelay.plugins.published_prices import PublishedPrices

__all__ = ["put"]

PUBLISHED = '[[plugins.pricing.sources]]\ntype = "genai-prices"\n'


def total(model: str, provider: str | None, usage: Usage, prices: PublishedPrices | None = None) -> float | str | None:
    """What an answer costs in US dollars; "unknown" where the model is."""
    cost = (prices or PublishedPrices()).price(answered(model, provider, usage))
    return "unknown" if cost is None else cost.total


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-5", "openai"),
        ("gpt-5-2025-08-07", "openai"),
        ("gpt-5", "azure.ai.openai"),
        ("claude-sonnet-4-5-20250929", "anthropic"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20241022-v2:0", "aws.bedrock"),
        ("gemini-2.5-flash", "gcp.gemini"),
        ("models/gemini-2.5-flash", "gcp.gemini"),
        ("gemini-2.5-flash", "gcp.vertex_ai"),
        ("mistral-large-latest", "mistral_ai"),
        ("command-a-03-2025", "cohere"),
        ("llama-3.3-70b-versatile", "groq"),
        ("anthropic/claude-sonnet-4.5", "openrouter"),
        ("grok-4", "x_ai"),
        ("kimi-k2-0905-preview", "moonshot_ai"),
        ("gpt-5", None),
    ],
)
def test_a_model_has_a_price_by_the_name_that_its_provider_uses(model: str, provider: str | None) -> None:
    found = total(model, provider, Usage(1000, 500))
    assert isinstance(found, float)
    assert found > 0


@pytest.mark.parametrize(
    "host",
    [
        "api.anthropic.com",
        "api.cerebras.ai",
        "api.cohere.com",
        "api.deepseek.com",
        "api.fireworks.ai",
        "api.groq.com",
        "api.mistral.ai",
        "api.moonshot.ai",
        "api.openai.com",
        "api.perplexity.ai",
        "api.together.ai",
        "api.x.ai",
        "bedrock-runtime.eu-west-1.amazonaws.com",
        "generativelanguage.googleapis.com",
        "openrouter.ai",
        "us-central1-aiplatform.googleapis.com",
        "x.openai.azure.com",
        "x.services.ai.azure.com",
    ],
)
def test_a_provider_that_is_known_by_its_host_is_known_to_the_package(host: str) -> None:
    assert PublishedPrices()._asked(provider_of_host(host), "m")


def test_cached_tokens_are_charged_as_cached_and_reasoning_as_output() -> None:
    usage = Usage(1000, 500, cache_read_tokens=400, reasoning_tokens=300)
    assert total("gpt-5", "openai", usage) == pytest.approx((600 * 1.25 + 400 * 0.125 + 500 * 10) / MILLION)


def test_tokens_written_to_the_cache_have_their_own_price() -> None:
    usage = Usage(1000, 500, cache_read_tokens=400, cache_write_tokens=200)
    expected = (400 * 3 + 400 * 0.3 + 200 * 3.75 + 500 * 15) / MILLION
    assert total("claude-sonnet-4-5-20250929", "anthropic", usage) == pytest.approx(expected)


def test_tokens_that_the_cache_keeps_for_an_hour_cost_twice_the_input() -> None:
    usage = Usage(1000, 500, cache_read_tokens=400, cache_write_tokens=200, cache_write_1h_tokens=150)
    expected = (400 * 3 + 400 * 0.3 + 50 * 3 * 1.25 + 150 * 3 * 2 + 500 * 15) / MILLION
    assert total("claude-sonnet-4-5-20250929", "anthropic", usage) == pytest.approx(expected)


def test_an_hour_in_the_cache_is_not_charged_as_minutes_where_the_package_has_no_price_of_it() -> None:
    model = "global.anthropic.claude-sonnet-4-20250514-v1:0"
    assert total(model, "aws.bedrock", Usage(1000, 500, cache_write_tokens=200)) is not None
    assert total(model, "aws.bedrock", Usage(1000, 500, cache_write_tokens=200, cache_write_1h_tokens=1)) is None


def test_audio_has_its_own_price() -> None:
    usage = Usage(1000, 500, input_audio_tokens=300)
    assert total("gemini-2.5-flash", "gcp.gemini", usage) == pytest.approx((700 * 0.3 + 300 * 1 + 500 * 2.5) / MILLION)


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gpt-4o-audio-preview", Usage(1000, 500, input_audio_tokens=300)),  # the package has a price of text alone
        ("gpt-4o-audio-preview", Usage(1000, 500, output_audio_tokens=300)),
        ("gpt-4o-realtime-preview", Usage(1000, 500, cache_read_tokens=400, input_audio_tokens=300)),  # which of both?
        ("gpt-5", Usage(10, 500, cache_read_tokens=400)),  # more cached than sent
    ],
)
def test_what_is_not_known_is_not_guessed(model: str, usage: Usage) -> None:
    assert total(model, "openai", usage) is None


@pytest.mark.parametrize(
    ("model", "provider", "usage"),
    [
        ("gpt-5", "openai", Usage()),
        ("nope", "openai", Usage(1, 1)),
        ("gpt-5", "somebody", Usage(1, 1)),
        ("nope", None, Usage(1, 1)),
    ],
)
def test_a_model_a_provider_and_tokens_that_nobody_knows_have_no_cost(
    model: str, provider: str | None, usage: Usage
) -> None:
    assert total(model, provider, usage) == "unknown"


@pytest.mark.parametrize(("second", "cost"), [(1_746_000_000, 10.0), (1_752_000_000, 2.0)])
def test_a_price_is_that_of_the_day_of_the_call(second: int, cost: float) -> None:
    record = answered("o3", "openai", Usage(MILLION, 0))  # which became cheaper in June 2025
    record.start = second * 10**9
    priced = PublishedPrices().price(record)
    assert priced is not None
    assert priced.total == cost


@pytest.mark.parametrize(("tier", "cost"), [("default", 1.25), ("priority", 2.5), ("flex", 0.625), ("unheard", 1.25)])
def test_a_price_is_that_of_the_tier_that_answered(tier: str, cost: float) -> None:
    record = answered("gpt-5", "openai", Usage(MILLION, 0))
    assert record.response is not None
    record.response.parameters["service_tier"] = tier
    priced = PublishedPrices().price(record)
    assert priced is not None
    assert priced.total == cost


def test_names_that_come_from_calls_are_kept_by_nobody_for_good() -> None:
    from genai_prices.data_snapshot import get_snapshot

    prices, snapshot = PublishedPrices(), get_snapshot()
    for at in range(2100):
        total(f"nope-{at}", "openai", Usage(1, 1), prices)
    assert len(prices._found) <= 1001
    assert len(snapshot._provider_misses) + len(snapshot._lookup_cache) < 100


# --- in a file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[plugins.pricing]\n", PUBLISHED])
def test_without_a_catalogue_there_are_published_prices(put: Put, text: str) -> None:
    put(text)
    record = answered("gpt-5", "openai", Usage(1000, 500))
    price_response(record)
    assert record.response is not None
    assert record.response.usage == Usage(
        1000, 500, cost_usd=pytest.approx(0.00625), input_cost_usd=0.00125, output_cost_usd=0.005
    )


@pytest.mark.parametrize("text", [INLINE + PUBLISHED, PUBLISHED + INLINE])
def test_ones_own_catalogue_counts_where_it_stands_before(put: Put, text: str) -> None:
    put(text.replace('"m"', '"gpt-5"'))
    cost = price(answered("gpt-5", "openai", Usage(1000, 500)))
    assert cost is not None
    assert cost.total == pytest.approx(0.007 if text.startswith(INLINE) else 0.00625)


def test_the_command_says_what_to_install_where_the_package_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text("[plugins.pricing]\n")
    assert main(["plugins", "validate", str(path)]) == 0
    monkeypatch.setattr(pricing, "is_installed", lambda: False)
    assert main(["plugins", "validate", str(path)]) == 1
    assert "pip install 'spanrelay[prices]'" in capsys.readouterr().out


def test_a_path_beside_published_prices_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spanrelay.toml"
    path.write_text(f"{PUBLISHED}path = {json.dumps(str(path))}\n")
    assert main(["plugins", "validate", str(path)]) == 1
    assert "is not read" in capsys.readouterr().out


def test_a_record_without_an_answer_has_no_cost() -> None:
    assert PublishedPrices().price(SpanRecord(1, 2)) is None

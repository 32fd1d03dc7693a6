"""The result of the suite in words: a table of providers and features, what failed, and what could not be served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.conformance.trial import Trial

MULTIMODAL = ("multimodal_image", "multimodal_document", "multimodal_audio", "multimodal_video", "images")
COLUMNS: dict[str, Callable[[Trial], bool]] = {
    "all": lambda trial: True,
    "sync": lambda trial: trial.way == "sync",
    "async": lambda trial: trial.way == "async",
    "stream": lambda trial: trial.exchange.streamed and trial.way != "run",
    "raw": lambda trial: trial.way == "raw",
    "tools": lambda trial: has(trial, "tool_calls", "tool_results", "server_tool_calls", "parallel_tool_calls"),
    "reasoning": lambda trial: has(trial, "reasoning"),
    "cached": lambda trial: has(trial, "cache_read", "cache_write"),
    "multimodal": lambda trial: has(trial, *MULTIMODAL),
    "errors": lambda trial: trial.exchange.truth["error"] is not None and trial.way != "run",
    "policy": lambda trial: trial.way == "policy",
    "runs": lambda trial: trial.way == "run",
}
"""The features, and which trials show one."""


def has(trial: Trial, *features: str) -> bool:
    """Whether an exchange has one of `features`; a run is told by itself."""
    return trial.way != "run" and not trial.exchange.features.isdisjoint(features)


def passed_of(trials: Iterable[Trial]) -> tuple[int, int]:
    """Return how many exchanges passed, in every way they were tried in, and how many there are."""
    verdicts: dict[tuple[str, str, bool], bool] = {}
    for trial in trials:
        key = (trial.driver.sdk, trial.exchange.id, trial.way == "run")
        verdicts[key] = verdicts.get(key, True) and trial.passed
    return sum(verdicts.values()), len(verdicts)


def figure(trials: Sequence[Trial]) -> str:
    """Passed of total, or nothing."""
    passed, total = passed_of(trials)
    return f"{passed}/{total}" if total else ""


def table(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield the lines of the table."""
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        rows.setdefault((trial.driver.sdk, trial.exchange.provider), []).append(trial)
    cells = [["SDK", "provider", *COLUMNS]]
    for (sdk, provider), members in sorted(rows.items()):
        cells.append([sdk, provider, *(figure(list(filter(shows, members))) for shows in COLUMNS.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def failures(trials: Iterable[Trial]) -> Iterator[str]:
    """Yield what was wrong, trial by trial."""
    for trial in trials:
        if not trial.passed:
            yield f"FAILED {trial.exchange.id} ({trial.driver.sdk}, {trial.way})"
            yield from (f"    {complaint}" for complaint in trial.complaints)


def unserved(reasons: Iterable[tuple[Exchange, str]]) -> Iterator[str]:
    """Yield what could not be served, with the reason."""
    for exchange, reason in reasons:
        yield f"not served: {exchange.id} ({exchange.provider} {exchange.api}): {reason}"

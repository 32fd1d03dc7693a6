"""`docs/providers.md`: what the suite showed of each SDK; `--page` writes it, and a test reads it to see that it holds.

The figures come from a run; rows, packages and versions from the drivers and instrumentors there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from spanrelay_testkit.conformance import report
from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.trial import Trial

Figures = Mapping[str, Sequence[str]]
"""By the first cell of a row: the cells that a run fills."""

COLUMNS: dict[str, Callable[[Trial], bool]] = {
    "sync": report.COLUMNS["sync"],
    "async": report.COLUMNS["async"],
    "stream": report.COLUMNS["stream"],
    "raw": report.COLUMNS["raw"],
    "tools": report.COLUMNS["tools"],
    "reasoning": report.COLUMNS["reasoning"],
    "cached usage": report.COLUMNS["cached"],
    "multimodal": report.COLUMNS["multimodal"],
    "errors": report.COLUMNS["errors"],
    "policy": report.COLUMNS["policy"],
    "runs": report.COLUMNS["runs"],
}
NOTHING = "\N{EN DASH}"

HEAD = """\
# Providers

See which SDKs are installed, and which package records each:

```bash
spanrelay setup
```

It prints the `pip install` line for the packages that are missing. These are the SDKs of providers;
[LiteLLM](../instrumentors/spanrelay-litellm/README.md) has a package too.

SpanRelay records a call, and policy decides about it, at the lowest place where the request is still JSON. Whichever
method, helper or framework your program uses, policy sees what goes over the wire, and the span says the same.
Providers that are not in the table are mostly reached through the `openai` SDK.

| SDK | Package | Versions |
|---|---|---|
"""

FEATURES = """\

## What was tried with each SDK

`make conformance` repeats recorded exchanges with providers through the real SDKs: in every way that an SDK has, once
without SpanRelay and once with it. Your program must send and receive the same bytes both times. The span and the
trajectory must say what the exchange says: request, answer, tool calls, usage, finish reasons and errors.

A cell counts the exchanges that passed, of those there are; a dash means that no exchange was of that kind. To repeat
exchanges of your own, run `make conformance DATA=folder`. `python -m tests.conformance --page docs/providers.md` writes
this page.

- **sync**, **async**: the synchronous and the asynchronous client.
- **stream**: the answer comes in events, and the span says what they add up to.
- **raw**: the program asks the SDK for the raw response.
- **tools**: tool calls and their results, also in parallel, and the provider's own tools.
- **reasoning**, **cached usage**, **multimodal**, **errors**: exchanges that contain one.
- **policy**: a refused call is not sent; a call that policy moves to another model is sent with that model, otherwise
  unchanged.
- **runs**: all exchanges of one recorded run make one trajectory.

"""

PROVIDERS = """\

The same by provider:

"""


def page(drivers: Sequence[Driver], figures: Figures) -> str:
    """Return the page with the figures of a run."""
    sdks = dict.fromkeys(driver.sdk for driver in drivers)
    packages = [row(f"`{sdk}`", *package_of(sdk, drivers)) for sdk in sdks]
    empty = [NOTHING] * len(COLUMNS)
    table = head_of("SDK") + [row(f"`{sdk}`", *figures.get(f"`{sdk}`", empty)) for sdk in sdks]
    pairs = dict.fromkeys(sorted((pair, driver.sdk) for driver in drivers for pair in driver.serves))
    names = dict.fromkeys(f"{provider}, by `{sdk}`" for (provider, _), sdk in pairs)
    by_provider = head_of("Provider") + [row(name, *figures.get(name, empty)) for name in names]
    return "".join((HEAD, *packages, FEATURES, *table, PROVIDERS, *by_provider))


def head_of(first: str) -> list[str]:
    """The first lines of a table of figures."""
    return [row(first, *COLUMNS), "|---" * (len(COLUMNS) + 1) + "|\n"]


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |\n"


def package_of(sdk: str, drivers: Sequence[Driver]) -> tuple[str, str]:
    """Return our packages for an SDK, and the versions they support."""
    classes = [kind for driver in drivers if driver.sdk == sdk for kind in driver.instrumentor_classes()]
    ours = dict.fromkeys(kind.__module__.partition(".")[0].replace("_", "-") for kind in classes)
    links = ", ".join(f"[{name}](../instrumentors/{name}/README.md)" for name in ours)
    versions = dict.fromkeys(requirement for kind in classes for requirement in kind.requires)
    return links, ", ".join(f"`{requirement}`" for requirement in versions)


def figures_of(trials: Sequence[Trial]) -> Figures:
    """Return the figures of a run, by row."""
    rows: dict[str, list[Trial]] = {}
    for trial in trials:
        sdk = f"`{trial.driver.sdk}`"
        rows.setdefault(sdk, []).append(trial)
        rows.setdefault(f"{trial.exchange.provider}, by {sdk}", []).append(trial)
    return {
        name: [report.figure(list(filter(shows, members))) or NOTHING for shows in COLUMNS.values()]
        for name, members in rows.items()
    }


def figures_in(text: str) -> Figures:
    """Return the figures that a page has, by row."""
    rows = [re.findall(r"(?<=\| ).*?(?= \|)", line) for line in text.splitlines() if line.startswith("| ")]
    return {first: cells for first, *cells in rows if len(cells) == len(COLUMNS)}

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

Each SDK below is recorded, and policy holds for it, at the lowest place where a request is still JSON: whichever
method, helper or framework above is used, policy sees what goes over the wire, and that is what is recorded. The
`openai` SDK is also how most other providers are asked.

`make conformance` asks recorded exchanges with the providers once more through the real SDKs, each in every way its SDK
has, bare and with ours at work. What the program gets and what is sent must be the same, byte by byte; the span and the
trajectory must say what the exchange says: request, answer, tool calls, usage, finish reasons, errors. `DATA=folder`
asks those of another folder. The figures are exchanges that passed, of those there are; this page is written by
`python -m tests.conformance --page docs/providers.md`.

| SDK | Package | Versions |
|---|---|---|
"""

FEATURES = """\

- **sync**, **async**: the halves of the SDK.
- **stream**: the answer came in events, and what they add up to is told.
- **raw**: with the raw response of the SDK.
- **tools**: calls of tools and their results, in parallel and the provider's own.
- **reasoning**, **cached usage**, **multimodal**, **errors**: exchanges that have it.
- **policy**: a refused call is not sent, and one for another model is sent as that and otherwise unchanged.
- **runs**: the exchanges of one recorded run are one trajectory.

"""

PROVIDERS = """\

The same by who answered:

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

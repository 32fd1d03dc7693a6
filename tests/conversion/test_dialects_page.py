"""`docs/dialects.md` says what each source of telemetry carries, by the tables that tests hold to be true.

`python -m tests.conversion.test_dialects_page` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conversion import agent_lacks, agent_lacks_more, framework_lacks, lacks
from tests.conversion.sources import AGENTS, CAPTURES
from tests.shared_data import SHARED, needs_shared

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"

COLUMNS: dict[str, frozenset[str]] = {
    "messages": frozenset(("words", "questions", "order", "reasoning")),
    "tools": frozenset(("tools", "call ids", "calls", "arguments")),
    "results": frozenset(("results", "exit_codes", "error text")),
    "usage": frozenset(("usage", "cached", "reasoning tokens", "model", "tokens", "token_details")),
    "errors": frozenset(("failed", "failures", "attempts")),
    "sessions": frozenset(("session", "agent")),
    "sub-agents": frozenset(("subagents",)),
}
"""The columns, and the aspects of the tables that each stands for."""

NOT_ASKED = {"genkit_js_tool_error": "ends with the failure", "genkit_go_tool_error": "ends with the failure"} | {
    "genkit_go_stream": "its library forgets after a stream what was asked, and counts no tokens of one"
}
"""Captures of another conversation, and what that is."""

HEAD = """\
# What each source carries

```bash
make demo
spanrelay convert .spanrelay/trajectories -o otlp --to openinference   # the run in spans of another dialect
spanrelay convert otlp -o trajectories                # spans and logs of any row below, by a collector or an exporter
spanrelay diff .spanrelay/trajectories trajectories   # the same conversation, told by two of them: "1 equal"
```

Telemetry of the same conversation becomes the same trajectory, whoever recorded it, except for what a source does not
carry. Tests convert captures of the real programs and check each row: everything else equals the one expected
trajectory, and a row may not name what is no longer missing. The page is written by `python -m
tests.conversion.test_dialects_page`.

✓ whole · ◐ not all of it, as the last column says · empty: not in what was captured

## Frameworks and SDKs

One conversation: a system prompt, a question, two calls of a tool at once of which one fails, an answer, another turn.

"""

AGENT_HEAD = """
## Coding agents

Sources: `full` is OTLP with every switch on that records content, `default` without them, `otlp` is of further runs
(sub-agents, policy, overload), and `session` is the transcript that the agent keeps itself. A source without a row
lacks nothing.

"""


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def marks(lacking: Mapping[str, str], absent: Iterable[str] = ()) -> list[str]:
    """Return a cell for each column."""
    return ["" if name in absent else "◐" if aspects & lacking.keys() else "✓" for name, aspects in COLUMNS.items()]


def reasons(lacking: Mapping[str, str]) -> str:
    """Return what is lacking in words, aspects with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for aspect, reason in lacking.items():
        by_reason.setdefault(reason, []).append(aspect.replace("_", " "))
    return "; ".join(f"{', '.join(aspects)}: {reason}" for reason, aspects in by_reason.items())


def frameworks() -> str:
    """Return the table of the captures of the one conversation."""
    table: dict[str, dict[str, str]] = {}
    for (capture, aspect), reason in {**lacks.LACKS, **framework_lacks.LACKS}.items():
        table.setdefault(capture, {})[aspect] = reason
    found = row(("source", "version", "dialect", *COLUMNS, "what it lacks")) + row(["---"] * (4 + len(COLUMNS)))
    for capture, (stack, version, dialect) in CAPTURES.items():
        lacking = table.get(capture, {})
        said = NOT_ASKED.get(capture) or reasons(lacking)
        found += row((stack, version, dialect, *marks(lacking, ("sub-agents",)), said))
    return found


def agents() -> str:
    """Return the table of what sources of coding agents lack."""
    found = row(("agent", "version", "run", "source", *COLUMNS, "what it lacks")) + row(["---"] * (5 + len(COLUMNS)))
    table = {**agent_lacks.LACKS, **agent_lacks_more.LACKS}
    order = list(AGENTS)
    for agent, run, source in sorted(table, key=lambda key: (order.index(key[0]), key[1], key[2])):
        lacking = table[agent, run, source]
        found += row((*AGENTS[agent], run, source, *marks(lacking), reasons(lacking)))
    return found


def written() -> str:
    """Return the page."""
    return HEAD + frameworks() + AGENT_HEAD + agents()


def test_the_page_says_what_the_tables_say() -> None:
    assert PAGE.read_text() == written(), "python -m tests.conversion.test_dialects_page writes it anew"


@needs_shared
def test_every_capture_has_its_row() -> None:
    assert SHARED is not None
    there = {path.stem for path in (SHARED / "spans-polyglot").glob("*.jsonl") if ".metrics" not in path.name}
    assert there == CAPTURES.keys()


def test_every_aspect_has_its_column() -> None:
    known = frozenset().union(*COLUMNS.values())
    aspects = {aspect for _, aspect in {**lacks.LACKS, **framework_lacks.LACKS}}
    for lacking in {**agent_lacks.LACKS, **agent_lacks_more.LACKS}.values():
        aspects |= lacking.keys()
    assert aspects <= known


if __name__ == "__main__":
    PAGE.write_text(written())

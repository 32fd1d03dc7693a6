"""`docs/coding-agents.md` says what tests prove; `python -m tests.test_coding_agents_page` writes its table anew.

A test proves something with `@pytest.mark.observes("claude", "tools")`; what no test proves needs a reason here.
"""

from __future__ import annotations

from tests.proofs import DOCS, NOTHING, ROOT, proofs_of, row

from spanrelay.coding_agents.agents import AGENTS

PAGE = DOCS / "coding-agents.md"
QUALITIES = ("model calls", "tools", "policy", "rewrite", "sub-agents", "cost", "resume")
_TOKENS = "it tells tokens, and no costs."
_BEGUN = "none has been begun in a test so far; recorded ones are embedded."
REASONS = {
    ("codex", "cost"): _TOKENS,
    ("gemini", "sub-agents"): _BEGUN,
    ("gemini", "cost"): _TOKENS,
    ("qwen", "rewrite"): "its hooks cannot change arguments; a call whose arguments policy would change is refused.",
    ("qwen", "sub-agents"): _BEGUN,
    ("qwen", "cost"): _TOKENS,
    ("copilot", "cost"): _TOKENS,
}

BEGIN, END = "<!-- table: written by tests -->\n", "<!-- end of the table -->\n"

PROOFS = [
    proof
    for path in sorted((ROOT / "tests" / "coding_agents").glob("test_*.py"))
    for proof in proofs_of(path, "observes")
]
TARGETS = list(dict.fromkeys(proof.target for proof in PROOFS))


def cell(agent: str, quality: str) -> str:
    found = [proof for proof in PROOFS if (proof.framework, proof.quality) == (agent, quality)]
    return " ".join(f"[✓][{TARGETS.index(proof.target) + 1}]" for proof in found) or NOTHING


def table() -> str:
    lines = [row("Agent", *QUALITIES), "|---" * (len(QUALITIES) + 1) + "|\n"]
    lines += [row(agent.title, *(cell(name, quality) for quality in QUALITIES)) for name, agent in AGENTS.items()]
    reasons = [f"- {AGENTS[name].title}, {quality}: {why}\n" for (name, quality), why in REASONS.items()]
    links = [f"[{number}]: {target}\n" for number, target in enumerate(TARGETS, 1)]
    return "".join((*lines, "\nWhere there is none:\n\n", *reasons, "\n", *links))


def page() -> str:
    text = PAGE.read_text()
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{table()}\n{END}{text.partition(END)[2]}"


def test_the_table_is_what_the_tests_prove() -> None:
    assert PAGE.read_text() == page()


def test_everything_is_proved_or_has_a_reason_and_nothing_both() -> None:
    cells = {(agent, quality) for agent in AGENTS for quality in QUALITIES}
    proved = {(proof.framework, proof.quality) for proof in PROOFS}
    assert proved <= cells, "a mark names no agent or no quality of the page"
    assert cells - proved == set(REASONS)


if __name__ == "__main__":
    PAGE.write_text(page())

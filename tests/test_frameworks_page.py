"""`docs/frameworks.md` says what tests prove; `python -m tests.test_frameworks_page` writes it anew.

A test proves something with `@pytest.mark.proves("langgraph", "streaming")`; what no test proves needs a reason here.
"""

from __future__ import annotations

from pathlib import Path

from tests.proofs import DOCS, NOTHING, ROOT, Proof, proofs_of, row

PAGE = DOCS / "frameworks.md"
TESTS = sorted([*ROOT.glob("instrumentors/*/tests/**/test_*.py"), *ROOT.glob("tests/**/test_*.py")])

QUALITIES = ("one trace", "streaming", "policy", "sub-agents", "interrupts", "sessions")
FRAMEWORKS = {
    "langchain": ("LangChain", ("langchain", "langgraph")),
    "langgraph": ("LangGraph", ("langgraph",)),
    "deepagents": ("Deep Agents", ("deepagents", "langchain", "langgraph")),
    "openai-agents": ("OpenAI Agents SDK", ("openai-agents", "openai")),
    "claude-agent-sdk": ("Claude Agent SDK", ("claude-agent-sdk",)),
    "pydantic-ai": ("Pydantic AI", ("pydantic-ai", "openai")),
    "nemo-agent-toolkit": ("NeMo Agent Toolkit", ("nemo-agent-toolkit", "langchain", "langgraph")),
    "nemo-guardrails": ("NeMo Guardrails", ("nemo-guardrails",)),
    "agno": ("Agno", ("openai",)),
    "smolagents": ("smolagents", ("openai",)),
    "strands": ("Strands", ("openai",)),
    "agent-framework": ("Microsoft Agent Framework", ("openai",)),
    "google-adk": ("Google ADK", ("google-genai",)),
    "crewai": ("CrewAI", ("openai",)),
    "llama-index": ("LlamaIndex", ("openai",)),
    "dspy": ("DSPy", ("openai",)),
    "openai": ("OpenAI SDK, without a framework", ("openai",)),
}
BESIDE = {
    "agno": ("openinference-instrumentation-agno",),
    "smolagents": ("openinference-instrumentation-smolagents",),
    "crewai": ("openinference-instrumentation-crewai",),
    "llama-index": ("openinference-instrumentation-llama-index",),
    "dspy": ("openinference-instrumentation-dspy",),
}
"""Packages of others that record a framework for which there is none of ours and which does not itself."""
_OFFERED = (
    "models are refused and rewritten, and with `tools.offered` a denied tool is offered to no model; a tool itself "
    "can only be refused by a package of its framework."
)
_OWN_SPANS = "its spans name no session; a [scope](scopes.md) around runs names one."
_UNTRIED = "none has been tried so far."
LIMITS = {
    ("agno", "policy"): _OFFERED,
    ("smolagents", "policy"): _OFFERED,
    ("strands", "policy"): _OFFERED,
    (
        "strands",
        "sessions",
    ): "where `trace_attributes` name one as `session.id`, or a [scope](scopes.md) around runs does.",
    ("agent-framework", "policy"): _OFFERED,
    ("google-adk", "one trace"): (
        "it requires OpenTelemetry 1.44 or older, with which SpanRelay does not go, and runs with newer all the same: "
        "`pip install --no-deps google-adk` beside what else it requires, or an override of uv's."
    ),
    ("google-adk", "policy"): _OFFERED,
    ("crewai", "policy"): _OFFERED,
    ("llama-index", "one trace"): (
        "OpenInference has a span of kind LLM too where a request is put together; and `opentelemetry-instrument` "
        "switches its instrumentor on only where `llama-index-multi-modal-llms-openai` is installed: else the program "
        "calls `LlamaIndexInstrumentor().instrument()`."
    ),
    ("llama-index", "policy"): _OFFERED,
    ("dspy", "policy"): (
        "models are refused and rewritten; tools stand in the words of prompts, where policy does not look for them."
    ),
}
REASONS = {
    ("nemo-guardrails", "sub-agents"): "rails have no agents; an agent that an action runs is beneath the action.",
    ("nemo-guardrails", "interrupts"): "a run of rails cannot be interrupted.",
    ("nemo-guardrails", "sessions"): "rails know no session; a [scope](scopes.md) around a run names one.",
    ("smolagents", "interrupts"): "a run cannot be left waiting for a person.",
    ("smolagents", "sessions"): "its runs know no session; a [scope](scopes.md) around them names one.",
    ("strands", "interrupts"): _UNTRIED,
    ("agent-framework", "interrupts"): _UNTRIED,
    ("agent-framework", "sessions"): _OWN_SPANS,
    ("google-adk", "interrupts"): _UNTRIED,
    ("crewai", "interrupts"): _UNTRIED,
    ("crewai", "sessions"): _OWN_SPANS,
    ("llama-index", "interrupts"): _UNTRIED,
    ("llama-index", "sessions"): _OWN_SPANS,
    ("dspy", "sub-agents"): "its modules are no agents, and their calls are told one after another.",
    ("dspy", "interrupts"): "a program cannot be left waiting for a person.",
    ("dspy", "sessions"): _OWN_SPANS,
    ("openai", "sub-agents"): "the SDK has no agents; [scopes](scopes.md) of kind `agent` make them.",
    ("openai", "interrupts"): "a call cannot be interrupted.",
    ("openai", "sessions"): "the SDK knows no session; a [scope](scopes.md) around calls names one.",
}

HEAD = """\
# Frameworks

Start your program by the launcher. It switches on every installed package below, and the program stays as it is:

```bash
spanrelay setup                           # what the frameworks that are installed here need
opentelemetry-instrument python app.py
spanrelay show                            # the run, as a tree
```

`spanrelay.activate()` in the program does the same, before or after it imports the SDK.
`activate(instrument=["openai"])` switches on only the packages that it names, and `instrument=False` none;
`OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` leaves out those that it names. Where a [`spanrelay.toml`](plugins.md) puts
policy in force, all are on. A model call is recorded once: if the package of the SDK below the framework (such as
`spanrelay-openai`) is installed too, the span says what went over the wire. The README of each package says what it
records.

| Framework | Packages |
|---|---|
"""

COLUMNS = """\

Any other framework is recorded by whatever OpenTelemetry instrumentation it has, as Agno and smolagents are, and policy
applies where a model is asked through an SDK above. If such instrumentation opens a span for a model call, that span is
filled with what the SDK's package saw, and no second one is opened, even where a router such as LiteLLM is in between.
Only spans that are made in callbacks, such as LangChain's, are not around the call: install the package of that
framework.

Where another instrumentor records the same calls as one of ours, its spans are left out, whichever was switched on
first, and one warning says so. `SPANRELAY_FOREIGN_SPANS=keep` keeps them; each model call still has one span, and one
step in the trajectory.

Each ✓ is a test that shows it.

- **one trace**: a run is one connected trace that has each agent, tool and model call once.
- **streaming**: the same holds when the run or the answer is streamed.
- **policy**: tools and models are refused and rewritten, without a change to the program.
- **sub-agents**: an agent below another one is its child in the trace, and is embedded in its trajectory.
- **interrupts**: a run that waits for a person has not failed, and continues where it stopped.
- **sessions**: the runs of a conversation carry its id, and are one trajectory.

"""


PROOFS = [proof for path in TESTS for proof in proofs_of(path)]
TARGETS = list(dict.fromkeys(proof.target for proof in PROOFS))


def cell(framework: str, quality: str) -> str:
    found = [proof for proof in PROOFS if (proof.framework, proof.quality) == (framework, quality)]
    return " ".join(f"[✓][{TARGETS.index(proof.target) + 1}]" for proof in found) or NOTHING


def link(package: str) -> str:
    """A package of ours, with its README."""
    return f"[spanrelay-{package}](../instrumentors/spanrelay-{package}/README.md)"


def code(package: str) -> str:
    """A package of somebody else's."""
    return f"`{package}`"


def page() -> str:
    packages = [
        row(title, ", ".join([*map(link, names), *map(code, BESIDE.get(name, ()))]))
        for name, (title, names) in FRAMEWORKS.items()
    ]
    table = [row("Framework", *QUALITIES), "|---" * (len(QUALITIES) + 1) + "|\n"]
    table += [row(title, *(cell(name, quality) for quality in QUALITIES)) for name, (title, _) in FRAMEWORKS.items()]
    reasons = [f"- {FRAMEWORKS[name][0]}, {quality}: {why}\n" for (name, quality), why in REASONS.items()]
    limits = [f"- {FRAMEWORKS[name][0]}, {quality}: {why}\n" for (name, quality), why in LIMITS.items()]
    links = [f"[{number}]: {target}\n" for number, target in enumerate(TARGETS, 1)]
    parts = (*table, "\nWhere there is none:\n\n", *reasons, "\nWhere it goes only so far:\n\n", *limits, "\n", *links)
    return "".join((HEAD, *packages, COLUMNS, *parts))


def test_the_page_is_what_the_tests_prove() -> None:
    assert PAGE.read_text() == page()


def test_everything_is_proved_or_has_a_reason_and_nothing_both() -> None:
    cells = {(framework, quality) for framework in FRAMEWORKS for quality in QUALITIES}
    proved = {(proof.framework, proof.quality) for proof in PROOFS}
    assert proved <= cells, "a mark names no framework or no quality of the page"
    assert cells - proved == set(REASONS)
    assert set(LIMITS) <= proved


def test_what_proves_runs() -> None:
    assert [proof for proof in PROOFS if proof.left_out] == []


def test_every_package_that_is_named_is_there() -> None:
    for _, names in FRAMEWORKS.values():
        assert all((ROOT / "instrumentors" / f"spanrelay-{name}" / "README.md").is_file() for name in names)


def test_marks_are_read_from_functions_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(
        "@pytest.mark.proves('a', 'x', 'y')\n@pytest.mark.skip\nasync def test_one(): ...\n"
        "@pytest.mark.proves('b', 'x')\nclass TestTwo: ...\n"
        "@pytest.mark.proves('b', 'x')\ndef no_test(): ...\n"
    )
    assert list(proofs_of(path)) == [
        Proof("a", "x", path, "test_one", True),
        Proof("a", "y", path, "test_one", True),
        Proof("b", "x", path, "TestTwo", False),
    ]


if __name__ == "__main__":
    PAGE.write_text(page())

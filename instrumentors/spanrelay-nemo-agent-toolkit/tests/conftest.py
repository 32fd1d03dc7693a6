"""The NeMo Agent Toolkit with the instrumentors at work."""

from collections.abc import Iterator

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

try:
    import nat.builder.function  # noqa: F401 - its dependencies clash with others here: it has an environment of its own
except ImportError:
    collect_ignore_glob.extend(
        ["test_functions.py", "test_policy.py", "test_programs.py", "test_runs.py", "test_snapshots.py"]
    )


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the toolkit and what it stands on are instrumented; nothing stays current."""
    from spanrelay_langchain import LangChainInstrumentor
    from spanrelay_langgraph import LangGraphInstrumentor
    from spanrelay_nemo_agent_toolkit import NemoAgentToolkitInstrumentor
    from spanrelay_openai import OpenAIInstrumentor

    with at_work(
        capture, NemoAgentToolkitInstrumentor, LangChainInstrumentor, LangGraphInstrumentor, OpenAIInstrumentor
    ):
        yield capture

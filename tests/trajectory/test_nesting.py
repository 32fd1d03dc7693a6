"""However agents, tools and models stand within each other, nothing is lost, and nothing is told twice."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, answers, calls, outline, run, says, system, user

from spanrelay.assembly.exporter import TrajectoryKeeper
from spanrelay.records import Message, SpanRecord, ToolCall


class Tree:
    """A random program: what it ran is in `said`, `ran` and `asked`, by the texts that must stand in its documents."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = random.Random(seed)
        self.program = Program(directory)
        self.program.writer = TrajectoryKeeper()  # pyright: ignore[reportAttributeAccessIssue] - fed alike
        self.count = 0
        self.said: list[str] = []
        self.ran: list[str] = []
        self.asked: list[str] = []

    def grow(self) -> list[dict[str, Any]]:
        """Run the program and return its documents."""
        if self.random.random() < 0.7:
            self.agent(None, 0, outer=True, session_id="s" if self.random.random() < 0.5 else None)
        else:
            root = self.program.begin("chain")
            self.beneath(root, 0, outer=True)
            self.program.end(root)
        return self.program.writer.documents(None, None)

    def beneath(self, above: SpanRecord, depth: int, *, outer: bool, history: list[Message] | None = None) -> None:
        history = [] if history is None else history
        for _ in range(self.random.randint(1, 3)):
            kind = self.random.choice(["agent", "tool", "llm", "llm", "chain"]) if depth < 4 else "llm"
            self.count += 1
            if kind == "llm":
                self.model(above, depth, history)
            elif kind == "tool":
                self.tool(above, depth, history)
            elif kind == "agent":
                self.agent(above, depth, outer=outer)
            else:
                chain = self.program.begin("chain", above)
                self.beneath(chain, depth + 1, outer=outer, history=history)
                self.program.end(chain)

    def model(self, above: SpanRecord, depth: int, history: list[Message]) -> None:
        number, instructions = self.count, [system(f"system {depth}")] if self.random.random() < 0.5 else []
        question = user(f"prompt {self.random.randint(0, 3) if self.random.random() < 0.3 else number}")
        asked = [*history, question] if self.random.random() < 0.4 else [question]
        told = self.random.random() < 0.7
        answer = (
            says(f"answer {number}") if told else calls((f"c{number}", "t", {"n": number}), text=f"answer {number}")
        )
        self.program.ask(above, [*instructions, *asked], answer)
        self.said.append(f"answer {number}")
        history[:] = [*asked, answer]

    def tool(self, above: SpanRecord, depth: int, history: list[Message]) -> None:
        number, last = self.count, history[-1].parts[-1] if history else None
        call_id = last.id if isinstance(last, ToolCall) else None
        # Beneath a tool of the same name a span may tell of the same run: names differ between levels here.
        name = "t" if call_id else f"t{self.random.randint(0, 1)}-{depth}"
        span = self.program.begin("tool", above, name=name)
        if self.random.random() < 0.6:
            self.beneath(span, depth + 1, outer=True)
        self.program.end(span, **run(name, {"n": number}, f"result {number}", call_id, None))
        self.ran.append(f"result {number}")
        if call_id:
            history.append(answers(call_id, f"result {number}"))

    def agent(self, above: SpanRecord | None, depth: int, *, outer: bool, **known: Any) -> None:
        question = f"question {self.count}."
        span = self.program.agent(f"agent{self.count}", above, **known)
        self.beneath(span, depth + 1, outer=False, history=[user(question)] if self.random.random() < 0.3 else [])
        self.program.end(span, input=question)
        if outer:
            self.asked.append(question)


def told(documents: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the messages and the results of documents and all that they embed."""
    messages: list[str] = []
    results: list[str] = []
    for document in documents:
        for step in document["steps"]:
            messages.append(step["message"])
            results += [str(each.get("content")) for each in step.get("observation", {}).get("results", [])]
        inner = told(document.get("subagent_trajectories", []))
        messages, results = messages + inner[0], results + inner[1]
    return messages, results


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_every_answer_every_result_and_every_outer_agents_question_has_its_step(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 100):
        tree = Tree(seed, tmp_path / str(seed))
        messages, results = told(tree.grow())
        assert [text for text in tree.asked if text not in messages] == [], f"questions of seed {seed}"
        assert [text for text in tree.said if text not in messages] == [], f"answers of seed {seed}"
        assert [text for text in tree.ran if text not in results] == [], f"results of seed {seed}"


def family(document: dict[str, Any]) -> Counter[str]:
    lines = Counter(outline(document))
    for child in document.get("subagent_trajectories", []):
        lines += family(child)
    return lines


def test_the_question_of_an_agent_that_only_has_others_work_stands_before_theirs(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("boss")
    program.ask(root, [user("go")], says("going"))
    crew = program.agent("crew", root)
    worker = program.agent("worker", crew)
    program.ask(worker, [user("compacted")], says("done"))
    program.end(worker, input="part of the work")
    program.end(crew, input="all of it")
    program.end(root)
    (child,) = program.document()["subagent_trajectories"]
    assert outline(child) == ["user: all of it", "user: part of the work", "user: compacted", "agent: done"]


@pytest.mark.parametrize("heard", ["the work", "compacted"])
def test_a_question_that_is_handed_on_stands_once(heard: str, tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("boss")
    program.ask(root, [user("go")], says("going"))
    crew = program.agent("crew", root)
    worker = program.agent("worker", crew)
    program.ask(worker, [user(heard)], says("done"))
    program.end(worker, input="the work")
    program.end(crew, input="the work")
    program.end(root)
    assert family(program.document())["user: the work"] == 1


def test_a_question_behind_whose_agent_no_step_follows_is_the_last(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("boss")
    program.ask(root, [user("go")], calls(("c1", "search", {})))
    tool = program.begin("tool", root, name="outer")
    program.ask(tool, [user("sum up")], calls(("c2", "search", {})))
    worker = program.agent("worker", tool)
    program.use(worker, "search", {}, "found", "c2")
    program.end(worker, input="find it")
    program.end(tool, **run("outer", {}, "done", None, None))
    program.end(root)
    assert family(program.document())["user: find it"] == 1


def test_a_tool_that_an_agent_runs_beneath_a_tool_of_the_same_name_has_its_step(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("boss")
    outer = program.begin("tool", root, name="delegate")
    worker = program.agent("worker", outer)
    program.use(worker, "delegate", {"to": "helper"}, "helped")
    program.end(worker, input="do it")
    program.end(outer, **run("delegate", {"to": "worker"}, "done", None, None))
    program.end(root)
    _, results = told([program.document()])
    assert sorted(results) == ["done", "helped"]

"""Which traces are assembled together, and that telling it takes no memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conversion.program import otlp_json, spans

from spanrelay.conversion.gathering import Gathered
from spanrelay.conversion.grouping import Group, Groups


def trace(number: int, start: int, end: int, *sessions: str, nested: bool = True, service: str = "a") -> Gathered:
    found = Gathered(f"{number:032x}", True, service, start=start, end=end, nested=nested)
    found.sessions.update((service, session) for session in sessions)
    return found


def grouped(*traces: Gathered, across_services: bool = False) -> list[set[int]]:
    """Return which traces are assembled together."""
    with closing(Groups(across_services=across_services)) as groups:
        groups.add(traces)
        return [numbers_of(group) for group in groups.groups()]


def numbers_of(group: Group) -> set[int]:
    return {int(each.key, 16) for each in group.traces}


def test_two_services_that_name_one_session_have_one_each_unless_told_otherwise() -> None:
    traces = trace(1, 0, 1, "s"), trace(2, 2, 3, "s", service="b"), trace(3, 4, 5, "s")
    assert grouped(*traces) == [{1, 3}, {2}]
    assert grouped(*traces, across_services=True) == [{1, 2, 3}]


def test_a_trace_with_spans_of_two_services_that_name_a_session_makes_it_one() -> None:
    one, other, both = trace(1, 0, 1, "s"), trace(2, 2, 3, "s", service="b"), trace(3, 4, 5, "s")
    both.sessions.add(("b", "s"))
    assert grouped(one, other, both) == [{1, 2, 3}]


def test_a_session_that_a_coding_agent_names_is_one_whichever_services_name_it_too() -> None:
    one, other = trace(1, 0, 1, "s"), trace(2, 2, 3, "s", service="b")
    other.agent = "claude_code"
    assert grouped(one, other) == [{1, 2}]


def test_the_session_that_began_first_has_its_name_though_it_is_let_go_of() -> None:
    with closing(Groups()) as groups:
        groups.add([trace(1, 2, 3, "s", "t"), trace(2, 0, 1, "s", service="b"), trace(3, 4, 5, "u")])
        assert [group.called for group in groups.groups()] == [{}, {"s": "s of a"}, {}]
        groups.forget([f"{2:032x}"])
        assert [group.called for group in groups.groups()] == [{"s": "s of a"}, {}]


def test_a_session_keeps_its_name_when_that_of_another_service_is_let_go_of() -> None:
    with closing(Groups()) as groups:
        groups.add([trace(1, 0, 1, "s"), trace(2, 2, 3, "s", service="b")])
        assert [group.called for group in groups.groups()] == [{}, {"s": "s of b"}]
        groups.forget([f"{2:032x}"])
        assert [group.called for group in groups.groups()] == [{}]


def test_a_span_by_itself_is_assembled_with_the_session_that_it_lies_within() -> None:
    around, within = trace(1, 0, 9, "s"), trace(2, 3, 4, nested=False)
    assert grouped(around, within) == [{1, 2}]
    assert grouped(around, trace(3, 1, 8, "s"), within) == [{1, 2, 3}]


@pytest.mark.parametrize(
    "other",
    [
        trace(2, 3, 10, nested=False),
        trace(2, 3, 4, nested=True),
        trace(2, 3, 4, nested=False, service="b"),
        trace(2, 10, 11, nested=False),
    ],
)
def test_what_lies_not_within_a_session_stays_apart(other: Gathered) -> None:
    assert grouped(trace(1, 0, 9, "s"), other) == [{1}, {2}]


def test_a_span_within_two_sessions_at_once_is_of_neither() -> None:
    assert grouped(trace(1, 0, 9, "s"), trace(3, 1, 8, "t"), trace(2, 3, 4, nested=False)) == [{1}, {3}, {2}]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.sets(st.sampled_from("abcd"))), max_size=12))
def test_traces_with_a_session_in_common_are_together_however_many_are_between(
    found: list[tuple[int, int, set[str]]],
) -> None:
    traces = [trace(number, *sorted(times), *names) for number, (*times, names) in enumerate(found, start=1)]
    sets = [({number}, names or {"no session"}) for number, (_, _, names) in enumerate(found, start=1)]
    for name in ("a", "b", "c", "d", "no session"):
        having = [each for each in sets if name in each[1]]
        joined = set[int]().union(*(numbers for numbers, _ in having)), set[str]().union(*(n for _, n in having))
        sets = [each for each in sets if each not in having] + ([joined] if having else [])
    begun = {number: (min(times), number) for number, (*times, _) in enumerate(found, start=1)}
    assert grouped(*traces) == sorted((numbers for numbers, _ in sets), key=lambda each: min(begun[n] for n in each))


SERVICES = st.sampled_from("ab")
PIECES = st.builds(
    lambda number, begin, length, names, nested, service, agent: dataclasses.replace(
        trace(number, begin, begin + length, *names, nested=nested, service=service), agent=agent
    ),
    st.integers(1, 9),
    st.integers(0, 20),
    st.integers(0, 9),
    st.sets(st.sampled_from("stu"), max_size=2),
    st.booleans(),
    SERVICES,
    st.sampled_from([None, None, None, "codex"]),
)


def told(groups: Iterable[Group]) -> list[tuple[set[int], str | None, str | None, Mapping[str, str]]]:
    return [(numbers_of(group), group.session, group.agent, group.called) for group in groups]


@given(st.lists(st.lists(PIECES, max_size=4), max_size=6), st.booleans())
def test_what_comes_bit_by_bit_is_put_together_as_what_comes_at_once(
    steps: list[list[Gathered]], across_services: bool
) -> None:
    with closing(Groups(across_services=across_services)) as bit_by_bit:
        there = dict[int, Group]()
        for number, step in enumerate(steps, start=1):
            bit_by_bit.add(step)
            gone, made = bit_by_bit.renew()
            assert gone <= there.keys()
            there = {each: group for each, group in there.items() if each not in gone}
            there |= bit_by_bit.groups_of(made)
            assert told(map(bit_by_bit.group, made)) == told(there[each] for each in made)
            with closing(Groups(across_services=across_services)) as at_once:
                at_once.add(piece for earlier in steps[:number] for piece in earlier)
                expected = told(at_once.groups())
            begun = {min(numbers): place for place, (numbers, *_) in enumerate(expected)}
            assert sorted(told(there.values()), key=lambda each: begun.get(min(each[0]), -1)) == expected
            assert len(bit_by_bit) == len(expected)
            assert {bit_by_bit.number_of(trace.key) for group in there.values() for trace in group.traces} == {*there}


def test_a_trace_that_turns_out_to_be_of_another_service_leaves_what_lay_within_it() -> None:
    with closing(Groups()) as groups:
        one, other = trace(1, 0, 9, "s", service="b"), trace(2, 0, 9, "t", service="b")
        groups.add([one, other, trace(3, 1, 2, nested=False, service="b")])
        assert [numbers_of(group) for group in groups.groups()] == [{1}, {2}, {3}]
        groups.add([trace(2, 3, 4, service="a")])
        groups.renew()
        assert [numbers_of(groups.group(groups.number_of(f"{each:032x}"))) for each in (1, 2)] == [{1, 3}, {2}]


def test_what_nothing_new_may_concern_is_left_as_it_is() -> None:
    with closing(Groups()) as groups:
        groups.add([trace(1, 0, 1, "s"), trace(2, 2, 3, "t"), trace(3, 4, 5, "u", service="b"), trace(4, 4, 5)])
        assert groups.renew() == (set(), range(1, 5))
        groups.add([trace(5, 6, 7, "u", service="b")])
        gone, made = groups.renew()
        assert (gone, [numbers_of(groups.group(each)) for each in made]) == ({3}, [{3, 5}])
        assert groups.renew() == (set(), range(6, 6))


def pieces() -> list[Gathered]:
    """Return what several readers gathered of one trace."""
    found = [trace(1, start, start + 1, *names) for start, names in ((5, "a"), (1, ""), (9, "ab"))]
    for number, piece in enumerate(found):
        piece.places.extend(range(10 * number, 10 * number + 3))
        piece.scopes.update({"one": 2, f"other {number}": 1})
        piece.count = 3
    found[0].agent, found[2].agent = None, "codex"
    return found


def test_what_was_gathered_in_pieces_is_whole_again_and_in_its_order() -> None:
    with closing(Groups()) as groups:
        for piece in pieces():
            groups.add([piece])
        (group,) = map(groups.fill, groups.groups())
        assert len(groups) == 1
    (whole,) = group.traces
    assert list(whole.places) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert (whole.start, whole.end, whole.names, whole.agent, whole.count) == (1, 10, {"a", "b"}, "codex", 9)
    assert whole.scopes == Counter({"one": 6, "other 0": 1, "other 1": 1, "other 2": 1})
    assert (group.session, group.agent) == (None, "codex")


def test_the_largest_come_first_where_that_is_asked_for() -> None:
    found = [trace(number, number, number, f"session {number}") for number in (1, 2, 3)]
    for each, count in zip(found, (2, 3, 1), strict=True):
        each.count = count
    with closing(Groups()) as groups:
        groups.add(found)
        assert list(map(numbers_of, groups.groups())) == [{1}, {2}, {3}]
        assert list(map(numbers_of, groups.groups(largest_first=True))) == [{2}, {1}, {3}]


def test_what_is_let_go_of_is_in_no_group() -> None:
    with closing(Groups()) as groups:
        groups.add([trace(1, 0, 9, "s"), trace(2, 1, 2, "s"), trace(3, 4, 5, "t")])
        groups.forget([f"{1:032x}", f"{7:032x}"])
        assert list(map(numbers_of, groups.groups())) == [{2}, {3}]
        groups.clear()
        assert (list(groups.groups()), len(groups)) == ([], 0)


def test_times_beyond_those_that_exist_and_names_that_are_no_text_are_kept_apart() -> None:
    late, odd = trace(1, 1 << 64, 1 << 65, "\ud800"), trace(2, 0, 1, "\udfff")
    with closing(Groups()) as groups:
        groups.add([late, odd])
        assert [group.session for group in groups.groups()] == ["\udfff", "\ud800"]


def test_the_memory_that_it_takes_is_a_few_bytes_a_trace() -> None:
    with closing(Groups()) as groups:
        tracemalloc.start()
        try:
            for number in range(20_000):
                groups.add([trace(number, number, number + 1, f"session {number // 2}")])
            assert sum(len(groups.fill(group).traces) for group in groups.groups(largest_first=True)) == 20_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 50 * 20_000


SMALL = """
import resource, sys, tempfile
from spanrelay.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
if __name__ == "__main__":
    sys.exit(main(["convert", "spans.jsonl", "-o", "out", "--jobs", "2"]))
"""


def test_a_folder_for_temporary_files_without_room_is_named(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SMALL)
    lines = (json.dumps(otlp_json(spans(f"session-{number}"))) for number in range(200))
    (tmp_path / "spans.jsonl").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},  # or what is imported is cut off, and kept so
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"what is read does not fit into {str(tmp_path)!r}, where it waits (File too large): make room there, or name "
        "another folder in TMPDIR\n"
    )

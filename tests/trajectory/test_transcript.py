"""The transcript finds in each request exactly what is new, however the history is wrapped."""

from hypothesis import given
from hypothesis import strategies as st
from tests.trajectory.program import answers, calls, says, user

from spanrelay.assembly.transcript import Alignment, Transcript, Turn, key_of, turns_of
from spanrelay.records import Message, Text, ToolCall, ToolCallResponse

WORDS = st.text(alphabet="ab \n", min_size=1, max_size=6).filter(str.strip)
ASKED = WORDS.map(user)
ANSWERED = st.one_of(
    WORDS.map(says),
    st.lists(st.tuples(st.just("c"), st.sampled_from("fg"), st.just({"x": 1})), min_size=1, max_size=3).map(
        lambda wanted: calls(*wanted)
    ),
)


def told(transcript: Transcript, history: list[Message], answer: Message | None) -> Alignment:
    found = transcript.align(history)
    transcript.accept(found, Turn("assistant", answer.parts) if answer else None, None, None)
    return found


@given(st.lists(st.tuples(st.lists(ASKED, min_size=1, max_size=3), ANSWERED), min_size=1, max_size=8))
def test_a_growing_history_tells_every_message_once(rounds: list[tuple[list[Message], Message]]) -> None:
    transcript, history = Transcript(), list[Message]()
    for asked, answer in rounds:
        history += asked
        found = told(transcript, history, answer)
        assert found.kind == "extension"
        assert [key_of(turn) for turn in found.new] == [key_of(turn) for turn in turns_of(asked)]
        history.append(answer)


@given(st.lists(st.tuples(ASKED, ANSWERED), min_size=1, max_size=6))
def test_a_repeated_request_tells_nothing_new(rounds: list[tuple[Message, Message]]) -> None:
    transcript, history = Transcript(), list[Message]()
    for asked, answer in rounds:
        history.append(asked)
        told(transcript, history, None)
        again = told(transcript, history, answer)
        assert (again.kind, again.new) == ("retry", [])
        assert told(transcript, history, answer).kind == "retry"
        history.append(answer)


@given(st.lists(st.tuples(ASKED, ANSWERED), min_size=2, max_size=6), st.data())
def test_whitespace_and_rewritten_ids_change_nothing(
    rounds: list[tuple[Message, Message]], data: st.DataObject
) -> None:
    transcript, history = Transcript(), list[Message]()
    for asked, answer in rounds:
        history.append(asked)
        found = told(transcript, history, answer)
        assert found.kind == "extension"
        assert len(found.new) == 1
        history.append(data.draw(st.sampled_from([answer, rewritten(answer)])))


def rewritten(message: Message) -> Message:
    """Return a message as a framework might echo it."""
    parts = [
        Text(f"  {part.text.replace(' ', '  ')} ")
        if isinstance(part, Text)
        else ToolCall("other", part.name, '{"x": 1}')
        for part in message.parts
        if isinstance(part, (Text, ToolCall))
    ]
    return Message(message.role, list(parts))


def test_a_short_history_that_is_known_is_a_fork() -> None:
    transcript = Transcript()
    told(transcript, [user("a")], says("b"))
    told(transcript, [user("a"), says("b"), user("c")], says("d"))
    found = transcript.align([user("a"), says("b")])
    assert (found.kind, found.kept, found.dropped) == ("fork", 2, 2)


def test_an_unknown_history_is_unrelated() -> None:
    transcript = Transcript()
    told(transcript, [user("a")], says("b"))
    assert transcript.align([user("x"), says("y")]).kind == "unrelated"


def test_tools_answers_are_turns_wherever_they_stand() -> None:
    apart = [answers("1", "x"), answers("2", "y"), user("go")]
    mixed = [Message("user", [ToolCallResponse("1", "x"), ToolCallResponse("2", "y"), Text("go")])]
    assert [key_of(turn) for turn in turns_of(apart)] == [key_of(turn) for turn in turns_of(mixed)]


def test_the_longest_surviving_tail_counts_as_kept() -> None:
    transcript = Transcript()
    told(transcript, [user("a"), says("b"), user("same")], says("same"))
    found = transcript.align([user("summary"), user("same"), says("same"), user("more")])
    assert (found.kind, len(found.changed), found.kept) == ("compaction", 1, 2)
    assert [turn.role for turn in found.new] == ["user"]


def test_an_answer_that_comes_as_several_messages_is_one_turn() -> None:
    history = [user("a"), calls(("1", "f", {})), calls(("2", "g", {})), answers("1", "x"), answers("2", "y"), user("b")]
    found = Transcript().align(history)
    assert [turn.role for turn in found.new] == ["user", "assistant", "tool", "tool", "user"]
    assert [call.id for call in found.new[1].calls] == ["1", "2"]
    found = Transcript().align([user("a"), says("one"), says("two"), user("b")])
    assert [turn.role for turn in found.new] == ["user", "assistant", "assistant", "user"]


def test_answers_that_are_known_apart_stay_apart() -> None:
    transcript = Transcript()
    told(transcript, [user("a")], says("wait"))
    told(transcript, [user("a"), says("wait")], calls(("1", "f", {})))
    found = transcript.align([user("a"), says("wait"), calls(("1", "f", {})), answers("1", "x")])
    assert (found.kind, [turn.role for turn in found.new]) == ("extension", ["tool"])


def test_an_answer_without_content_is_known_by_its_place() -> None:
    transcript, blank = Transcript(), Message("assistant", [])
    told(transcript, [user("a")], says("b"))
    told(transcript, [user("a"), blank, user("c")], says("d"))
    found = transcript.align([user("a"), blank, user("c"), blank, user("e")])
    assert (found.kind, [turn.text for turn in found.new]) == ("extension", ["e"])
    fresh = Transcript()
    told(fresh, [user("a")], says("b"))
    assert fresh.extends([user("a"), blank, user("c")])


def test_an_answer_without_content_hides_no_change_of_what_was_asked() -> None:
    transcript, blank = Transcript(), Message("assistant", [])
    told(transcript, [user("a")], says("b"))
    told(transcript, [user("a"), says("b"), user("c")], says("d"))
    found = transcript.align([user("a"), blank, user("other"), blank, user("e")])
    assert (found.kind, found.kept) == ("truncation", 1)


def test_an_answer_that_was_never_given_has_no_place() -> None:
    transcript, blank = Transcript(), Message("assistant", [])
    told(transcript, [user("a")], None)
    told(transcript, [user("a"), blank, user("b")], says("c"))
    found = transcript.align([user("a"), blank, user("b"), says("c"), user("d")])
    assert (found.kind, [turn.text for turn in found.new]) == ("extension", ["d"])


def test_the_last_answer_is_known_by_the_tools_that_it_calls() -> None:
    transcript = Transcript()
    told(transcript, [user("a")], calls(("12", "fg", "{}{}")))
    found = transcript.align([user("a"), calls(("1", "f", {}), ("2", "g", {})), answers("1", "x"), answers("2", "y")])
    assert (found.kind, len(found.new)) == ("extension", 2)
    assert transcript.align([user("a"), calls(("1", "f", {}), ("2", "h", {}))]).kind == "truncation"


def test_a_result_in_quotes_is_the_same_as_without() -> None:
    assert key_of(turns_of([answers("1", '"x"')])[0]) == key_of(turns_of([answers("1", "x")])[0])
    assert key_of(turns_of([answers("1", '"x')])[0]) != key_of(turns_of([answers("1", "x")])[0])

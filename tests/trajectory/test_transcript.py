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

"""Which conversation a model call goes on in, where no session and no span around it says so.

Budgets and trajectories both ask here, so that what is one conversation for the one is for the other. Only hashes and
ids are kept, and each table has a bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, Protocol, TypeVar

from spanrelay.assembly.transcript import Turn, canonical, key_of, print_of, split_system, turns_of
from spanrelay.records import Message, ModelRequest, ModelResponse

MAX_STATES = 16_384
"""States of conversations that are remembered, those passed by included."""
MAX_ALIKE = 64
"""Conversations in which the same was said last; of more, the oldest are forgotten."""
MAX_LOOKED_AT = 32
"""Answers in a request, from its end, that are looked for."""
MAX_ID = 512
"""Characters of an id that is remembered; no provider's is as long."""

K = TypeVar("K")


class History(Protocol):
    """The dialogue of a request, without the system prompt at its head; read from its end as far as asked."""

    def __len__(self) -> int:
        """How many messages there are."""
        ...

    def fingerprint(self, index: int) -> int:
        """Return the exact fingerprint of one message."""
        ...

    def backward(self) -> Iterator[Turn]:
        """Yield the turns, the last first."""
        ...


class RecordedHistory:
    """The dialogue of a request that has been read."""

    __slots__ = ("_messages", "_start")

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._start = split_system(messages)[1]

    def __len__(self) -> int:
        return len(self._messages) - self._start

    def fingerprint(self, index: int) -> int:
        """Return the exact fingerprint of one message."""
        return print_of(self._messages[self._start + index])

    def backward(self) -> Iterator[Turn]:
        """Yield the turns, the last first."""
        for index in range(len(self._messages) - 1, self._start - 1, -1):
            yield from reversed(turns_of([self._messages[index]]))


@dataclass(slots=True)
class Question:
    """Which conversation does a request go on in? `find` answers it, and `tell` wants it again.

    `names` are the provider's ids in it, `asked` is the key of its last turn, `first` and `last` are the fingerprints
    of its first and last message: applications may change what they have sent, so all this is looked at first.
    """

    history: History
    names: list[str]
    length: int
    first: int
    last: int
    asked: int
    grown: bool = False

    def exchanges(self) -> Iterator[tuple[int, frozenset[int]]]:
        """Yield what was asked and the keys of what stands there as its answer, the last of them first."""
        run: list[Turn] = []
        asked = False
        for turn in self.history.backward():
            if turn.role == "assistant":
                run.insert(0, turn)
                continue
            if run and asked:
                yield key_of(turn), _keys_of(run)
            run, asked = [], True


def question_of(history: History, request: ModelRequest) -> Question:
    """Return the question which conversation a request goes on in; of `request` only the parameters are read."""
    names = [
        f"{name} {value}"
        for name in ("previous_response_id", "conversation_id")
        if isinstance(value := request.parameters.get(name), str) and len(value) <= MAX_ID
    ]
    length, last = len(history), next(history.backward(), None)
    if last is None:
        return Question(history, names, 0, 0, 0, 0)
    first, end = history.fingerprint(0), history.fingerprint(length - 1)
    return Question(history, names, length, first, end, key_of(last))


class _Talk(Generic[K]):
    """A conversation as its states and names know it: once it is forgotten they hold nothing of the caller's."""

    __slots__ = ("key", "state")

    def __init__(self, key: K) -> None:
        self.key: K | None = key
        self.state: _State | None = None


class _State:
    """What a conversation had come to with one request.

    `answers` are the keys by which its answer is known, none where none has come. `grown` says whether the request
    went on from another. `busy` while the next request is under way.
    """

    __slots__ = ("answers", "asked", "at", "busy", "first", "grown", "last", "length", "talk")

    def __init__(self, talk: _Talk[Any], question: Question, at: int, answers: frozenset[int]) -> None:
        self.talk = talk
        self.length, self.first, self.last = question.length, question.first, question.last
        self.asked, self.grown = question.asked, question.grown
        self.at, self.answers, self.busy = at, answers, False


class Conversations(Generic[K]):
    """The conversations of a process that can still go on, by keys of the caller's choice.

    A request goes on in the conversation whose provider's id it names. Else it goes on where it repeats what was asked
    last and the answer to that: then what stands before is as it was, or was cut away since. A conversation that has
    gone on already is gone on in again by a request that repeats all of it. Requests that repeat no answer begin
    conversations of their own, however alike.

    Not safe among threads.

    Args:
        most: How many conversations are remembered; the one that was quiet for longest is forgotten first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now: OrderedDict[K, _Talk[K]] = OrderedDict()
        self._states: OrderedDict[tuple[int, int], list[_State]] = OrderedDict()
        self._names: OrderedDict[str, _Talk[K]] = OrderedDict()
        self._clock = count()
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._now)

    def find(self, question: Question) -> K | None:
        """Return the conversation that a request goes on in, or None where it begins one."""
        for name in question.names:
            talk = self._names.get(name)
            if talk is not None and talk.key is not None:
                question.grown = True
                return talk.key
        found = self._by_exchange(question) or self._again(question)
        if found is None:
            return None
        question.grown = True
        return found.talk.key

    def begin(self, key: K) -> None:
        """Note that the next request of a conversation is under way, so that another like it goes on elsewhere."""
        talk = self._now.get(key)
        if talk is not None and talk.state is not None:
            talk.state.busy = True

    def tell(self, key: K, question: Question, response: ModelResponse | None) -> None:
        """Remember what a conversation has come to: a request, and its answer if one has come."""
        talk = self._now.setdefault(key, _Talk(key))
        self._remember_names(talk, question, response)
        if question.length:
            turns = turns_of(response.messages[:1]) if response is not None else []
            talk.state = _State(talk, question, next(self._clock), _keys_of(turns) if turns else frozenset())
            self._remember_state(talk.state)
        self._now.move_to_end(key)
        while len(self._now) > self._most:
            self.forget(next(iter(self._now)))

    def forget(self, key: K) -> None:
        """Let no request go on in a conversation any more."""
        talk = self._now.pop(key, None)
        if talk is not None:
            talk.key = None
            self._forgotten += 1
            if self._forgotten > self._most:
                self._sweep()

    def _sweep(self) -> None:
        """Let go of the states and names of conversations that have been forgotten: many at once, to look once."""
        self._forgotten = 0
        for name in [name for name, talk in self._names.items() if talk.key is None]:
            del self._names[name]
        for known_by, alike in list(self._states.items()):
            alike[:] = [state for state in alike if state.talk.key is not None]
            if not alike:
                del self._states[known_by]

    def latest(self, most: int) -> list[K]:
        """Return the conversations in which something was said last, the last first."""
        return list(islice(reversed(self._now), most))

    def of_call(self, name: str, arguments: Any, call_id: str | None) -> K | None:
        """Return the conversation whose model asked for the execution of a tool, the last of several."""
        talk = self._names.get(_call_name(call_id) if call_id else _call_key(name, arguments))
        return talk.key if talk is not None else None

    # ── looking

    def _by_exchange(self, question: Question) -> _State | None:
        doubtful: list[_State] = []
        for asked, answers in islice(question.exchanges(), MAX_LOOKED_AT):
            alike = {id(state): state for key in answers for state in self._states.get((asked, key), ())}
            found = self._best(alike.values(), question)
            if found is not None:
                return found
            doubtful += self._states.get((asked, _ASKED), ())
        # What was answered is not known, or the application has put other words there.
        likely = [state for state in doubtful if state.grown or not state.answers]
        return self._best((state for state in likely if _is_whole(state, question)), question)

    def _again(self, question: Question) -> _State | None:
        """Return what a request repeats to its end: one that failed is made again, or one is tried twice."""
        mine = (question.length, question.first, question.last)
        alike = self._states.get((question.asked, _ASKED), ())
        same = (each for each in alike if each.grown and (each.length, each.first, each.last) == mine)
        return self._best(same, question)

    def _best(self, states: Iterable[_State], question: Question) -> _State | None:
        """Return the state that a request goes on from: the whole of it repeated, still open, the latest."""
        best: tuple[tuple[bool, bool, bool, int], _State] | None = None
        for state in states:
            if state.talk.key is None:
                continue
            current, whole = state.talk.state is state, _is_whole(state, question)
            if not whole and not (current and state.length > 1):
                continue
            rank = (whole, current, not state.busy, state.at)
            if best is None or rank > best[0]:
                best = rank, state
        return best[1] if best is not None else None

    # ── remembering

    def _remember_state(self, state: _State) -> None:
        for known_by in (_ASKED, *state.answers):
            alike = self._states.setdefault((state.asked, known_by), [])
            alike.append(state)
            del alike[:-MAX_ALIKE]
            self._states.move_to_end((state.asked, known_by))
        while len(self._states) > MAX_STATES:
            self._states.popitem(last=False)

    def _remember_names(self, talk: _Talk[K], question: Question, response: ModelResponse | None) -> None:
        names = [name for name in question.names if name.startswith("conversation_id ")]
        if response is not None:
            if response.id:
                names.append(f"previous_response_id {response.id}")
            kept = response.parameters.get("conversation_id")
            if isinstance(kept, str):
                names.append(f"conversation_id {kept}")
            for call in response.tool_calls:
                names += [_call_key(call.name, call.arguments), *([_call_name(call.id)] if call.id else ())]
        for name in names:
            if len(name) <= 2 * MAX_ID:
                self._names[name] = talk
                self._names.move_to_end(name)
        while len(self._names) > MAX_STATES:
            self._names.popitem(last=False)


_ASKED = 0
"""Stands for the answer in the table of states where it does not matter."""


def _is_whole(state: _State, question: Question) -> bool:
    """Whether a request begins as the one that made `state` did, and still has its last message where it was."""
    if state.length > question.length or state.first != question.first:
        return False
    return question.history.fingerprint(state.length - 1) == state.last


def _keys_of(run: list[Turn]) -> frozenset[int]:
    """Return the keys by which an answer is known: its words, those of its first part, the ids of its calls."""
    joined = Turn("assistant", [part for turn in run for part in turn.parts])
    keys = {key_of(joined), key_of(run[0])}
    ids = frozenset(call.id for call in joined.calls if call.id)
    return frozenset({*keys, hash(ids)} if ids else keys)


def _call_name(call_id: str) -> str:
    return f"call {call_id}"


def _call_key(name: str, arguments: Any) -> str:
    return f"calls {name} {hash(canonical(arguments))}"

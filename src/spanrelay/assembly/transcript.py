"""One conversation as model calls tell it: finds in each request what earlier ones have not said.

Pure: no I/O. Of what is known only hashes are kept, never text, so that memory stays small and no history is
written twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeAlias

from spanrelay import _json
from spanrelay.records import JSON, Media, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolCallResponse

SYSTEM_ROLES = ("system", "developer")


@dataclass(slots=True)
class Turn:
    """One utterance, in the shape all providers share: a tool's answer is a turn of its own.

    `role` is `system`, `user`, `assistant` or `tool`; a tool's turn has exactly one part.
    """

    role: str
    parts: list[Part]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text of the turn, paragraphs apart."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # as most are
            return parts[0].text
        return "\n\n".join([part.text for part in self.parts if isinstance(part, Text) and part.text])

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls of the turn, in order."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # as most are
            return []
        return [part for part in parts if isinstance(part, ToolCall)]


def turns_of(messages: Iterable[Message], *, blank: bool = False) -> list[Turn]:
    """Return messages as turns; tools' answers inside user messages look as those in messages of their own.

    Empty assistant turns (only hidden reasoning) are left out: frameworks drop or keep them at will. With `blank` those
    stay that have no part at all: some instrumentors leave out what a model said.
    """
    turns: list[Turn] = []
    for message in messages:
        if message.role == "assistant":
            turn = Turn("assistant", message.parts, message.name)
            if _says_something(message.parts) or (blank and not message.parts):
                turns.append(turn)
        elif message.role in SYSTEM_ROLES:
            turns.append(Turn("system", message.parts, message.name))
        else:
            turns.extend(_split(message))
    return turns


def joined(turns: list[Turn]) -> list[Turn]:
    """Return turns, adjacent ones of a model as one if it asks for tools in any: it answers once before they have."""
    found: list[Turn] = []
    for turn in turns:
        last = found[-1] if found else None
        if last is not None and last.role == turn.role == "assistant" and _are_one(last, turn):
            found[-1] = Turn("assistant", last.parts + turn.parts, turn.name)
        else:
            found.append(turn)
    return found


def _are_one(turn: Turn, other: Turn) -> bool:
    return turn.name == other.name and bool(turn.calls or other.calls)


def _split(message: Message) -> list[Turn]:
    """Return the tools' answers in a user or tool message one by one, then what else it holds."""
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text:  # as most are
        return [Turn("user" if message.role == "user" else "tool", parts, message.name)]
    found: list[Turn] = []
    rest: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCallResponse):
            found.append(Turn("tool", [part], part.name or message.name))
        else:
            rest.append(part)
    if rest or not found:
        found.append(Turn("user" if message.role == "user" else "tool", rest, message.name))
    return found


def _says_something(parts: list[Part]) -> bool:
    for part in parts:
        if isinstance(part, Text):
            if part.text:
                return True
        elif not isinstance(part, Reasoning):
            return True
    return False


def split_system(messages: list[Message]) -> tuple[list[Message], int]:
    """Return the system messages at the head of a request, and where its dialogue begins."""
    count = 0
    while count < len(messages) and messages[count].role in SYSTEM_ROLES:
        count += 1
    return messages[:count], count


# ── keys


def key_of(turn: Turn) -> int:
    """Return the comparison key of a turn: equal for what frameworks rewrite, within this process only.

    White space and reasoning do not count. Ids of an assistant's calls do not count (frameworks rewrite
    them); the call a tool answers does.
    """
    parts = turn.parts
    if len(parts) == 1 and type(parts[0]) is Text:
        return _key_of_text(turn.role, parts[0].text)
    texts: list[str] = []
    others: list[object] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif not isinstance(part, Reasoning):
            others.append(_part_key(part))
    return hash((turn.role, " ".join(" ".join(texts).split()), tuple(others)))


MAX_KEYS = 16_384
"""Texts whose keys are remembered, by their fingerprints: an answer comes again with the request that goes on."""

_keys: dict[int, int] = {}


def _key_of_text(role: str, text: str) -> int:
    exact = hash((role, text))
    key = _keys.get(exact)
    if key is None:
        if len(_keys) >= MAX_KEYS:
            _keys.clear()
        key = _keys[exact] = hash((role, " ".join(text.split()), ()))
    return key


def _part_key(part: Part) -> object:
    if isinstance(part, ToolCall):
        return ("call", part.name, canonical(part.arguments))
    if isinstance(part, ToolCallResponse):
        return ("result", part.id, result_key(part.content))
    if isinstance(part, Media):
        return ("media", part.modality, part.data or part.uri or part.file_id)
    if isinstance(part, Opaque):
        return ("opaque", part.type, canonical(part.data))
    return part.text


def canonical(value: JSON) -> str:
    """Return JSON in one spelling: key order and, for a string that holds JSON, its quoting do not count."""
    if isinstance(value, str):
        value = _json.loads_or_text(value)
    if value is None or value == {}:
        return ""
    return _json.dumps_sorted(value) if isinstance(value, (dict, list)) else str(value)


def result_key(content: object) -> str:
    """Return the comparison key of a tool's answer: its text without white space and quotes around it, or its JSON."""
    if isinstance(content, list) and content and all(isinstance(part, Text) for part in content):
        content = "".join(part.text for part in content if isinstance(part, Text))
    if not isinstance(content, str):
        return canonical(content)
    told = content.strip()
    quoted = _json.loads_or_text(told) if told[:1] == told[-1:] == '"' else None
    return quoted.strip() if isinstance(quoted, str) else told


def print_of(message: Message) -> int:
    """Return a fingerprint of a message as it stands: cheap, exact, valid within this process."""
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text:
        return hash((message.role, parts[0].text))
    return hash((message.role, *[_part_print(part) for part in parts]))


def prints_of(messages: Sequence[Message], start: int = 0) -> array[int]:
    """Return the fingerprints of `messages[start:]`; where the list has `prints` to share, only those that lack there.

    Those are as a `History` has them.
    """
    shared: array[int] | None = getattr(messages, "prints", None)
    if shared is None:
        return array("q", map(print_of, islice(messages, start, None)))
    prints = shared[: len(messages)]
    if len(prints) < len(messages):
        prints.extend(map(print_of, islice(messages, len(prints), None)))
        shared[: len(prints)] = prints  # in one piece: other threads may do the same
    return prints[start:]


def _part_print(part: Part) -> object:
    if isinstance(part, (Text, Reasoning)):
        return part.text
    if isinstance(part, ToolCall):
        return (part.id, part.name, _exact(part.arguments))
    if isinstance(part, ToolCallResponse):
        return (part.id, _exact(part.content))
    if isinstance(part, Media):
        return (part.data, part.uri, part.file_id)
    return (part.type, _exact(part.data))


def _exact(value: object) -> object:
    return value if isinstance(value, str) else _json.dumps(value)


# ── what a request says that is new

Kind: TypeAlias = Literal["extension", "retry", "fork", "compaction", "pruning", "truncation", "unrelated"]


@dataclass(slots=True)
class Alignment:
    """How a request stands to the known conversation.

    Attributes:
        kind: `extension` (all known, then `new`), `retry` (the same request again), `fork` (an earlier state
            of it, nothing new), `compaction` and `pruning` (the tail survives, what stood before was replaced
            by `changed`, or left out), `truncation` (the head survives, the tail was dropped), `unrelated`.
        new: The turns that nobody has told of yet.
        changed: The turns that stand in place of known ones.
        kept: How many known turns survive.
        dropped: How many do not.
        echo: The turns by which the request repeats the conversation's last answer.
    """

    kind: Kind
    new: Sequence[Turn] = ()
    changed: Sequence[Turn] = ()
    kept: int = 0
    dropped: int = 0
    echo: Sequence[Turn] = ()
    _keys: array[int] = field(default_factory=lambda: array("q"))
    _prints: array[int] = field(default_factory=lambda: array("q"))

    @property
    def known(self) -> int:
        """How many turns stand before the new ones."""
        return len(self._keys) - len(self.new)


class Transcript:
    """What one conversation is known to have said: two hashes a message.

    `align` looks, `accept` remembers; so several conversations can be asked which of them a request goes on.
    """

    __slots__ = (
        "_answer",
        "_answer_ids",
        "_answer_tools",
        "_delta_at",
        "_keys",
        "_printed",
        "_prints",
        "response_id",
        "sent_id",
    )

    def __init__(self) -> None:
        self._keys = array("q")
        """The keys of all known turns, in order."""
        self._prints = array("q")
        """The fingerprints of the last request's messages."""
        self._printed = 0
        """How many known turns those messages are."""
        self._answer = False
        """Whether the last known turn is the answer to the last request."""
        self._answer_ids: frozenset[str] = frozenset()
        self._answer_tools = ""
        self._delta_at = 0
        """Where the turns begin that the last request added."""
        self.response_id: str | None = None
        """The provider's id of the last answer."""
        self.sent_id: str | None = None
        """The id of the answer that the last request built upon, where it sent only what was new."""

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def answered(self) -> bool:
        """Whether an answer to the last request is known."""
        return self._answer

    def align(self, messages: Sequence[Message], start: int = 0) -> Alignment:
        """Compare a whole history, `messages[start:]`, with what is known."""
        prints = prints_of(messages, start)
        known = self._prints
        if known and len(prints) >= len(known) and prints[: len(known)] == known:
            found = self._forward(turns_of(messages[start + len(known) :], blank=True), self._printed)
        else:
            found = self._forward(turns_of(messages[start:], blank=True), 0)
        found._prints = prints
        return found

    def extends(self, messages: Sequence[Message], start: int = 0) -> bool:
        """Whether a history goes on from this conversation's last answer. Cheap where it does not."""
        if not self._answer or len(messages) - start < len(self._prints):
            return False
        if prints_of(messages, start)[: len(self._prints)] != self._prints:
            return False
        found = self._forward(turns_of(messages[start + len(self._prints) :], blank=True), self._printed)
        return found.kind == "extension" and bool(found.new)

    def delta(self, messages: Sequence[Message], start: int = 0, sent_id: str | None = None) -> Alignment:
        """Take `messages[start:]` as only what is new since the last answer (or as the same delta again)."""
        turns = turns_of(messages[start:])
        keys = array("q", map(key_of, turns))
        known = self._keys[self._delta_at : self._delta_at + len(keys)]
        again = (sent_id is not None and sent_id == self.sent_id) or not self._answer
        if keys and again and known == keys:
            return Alignment("retry", kept=len(self._keys), _keys=self._keys[: self._delta_at + len(keys)])
        return Alignment("extension", turns, kept=len(self._keys), _keys=self._keys + keys)

    def accept(
        self, found: Alignment, answer: Turn | None, response_id: str | None, sent_id: str | None
    ) -> tuple[int, int] | None:
        """Remember a request as it was aligned, and its answer; return the keys of its last turn and of that.

        None where they are not both known from here.
        """
        if found.kind != "retry":
            self._delta_at = len(found._keys) - len(found.new)
        self._keys = found._keys
        self._prints = found._prints
        self._printed = len(found._keys)
        self._answer = answer is not None
        self._answer_ids = _ids(answer) if answer is not None else frozenset()
        self._answer_tools = _tools(answer) if answer is not None else ""
        self.response_id = response_id
        self.sent_id = sent_id
        if answer is None or not _says_something(answer.parts):
            return None
        self._keys.append(key_of(answer))
        return (self._keys[-2], self._keys[-1]) if found.new else None

    def _forward(self, turns: list[Turn], position: int) -> Alignment:
        """Walk through `turns` from the known turn `position` on, as long as they agree."""
        known = self._keys
        at, place, echo_at = 0, position, 0
        while at < len(turns) and place < len(known):
            taken = self._matches(turns, at, place)
            if taken:
                echo_at = at
                at, place = at + taken, place + 1
            elif turns[at].parts:
                break
            else:
                at, place = at + 1, place + self._stands_for(turns, at, place)
        if place == len(known):
            return self._extended(turns, at, echo_at)
        if at == len(turns):
            kind: Kind = "unrelated" if not place else "retry" if place == self._printed else "fork"
            return Alignment(kind, kept=place, dropped=len(known) - place, _keys=known[:place])
        if self._answer and place == len(known) - 1:
            found = self._answered_late(turns, at)
            if found is not None:
                return found
        before, rest = _told(turns[:at]), _told(turns[at:])
        return self._truncated(rest, place) if position else self._diverged(before + rest, len(before), place)

    def _stands_for(self, turns: list[Turn], at: int, place: int) -> bool:
        """Whether a turn without any part is the known turn `place`: what follows it follows that."""
        following = place + 1
        if following == len(self._keys):
            return self._answer
        return at + 1 < len(turns) and self._matches(turns, at + 1, following) > 0

    def _answered_late(self, turns: list[Turn], at: int) -> Alignment | None:
        """Return how a request goes on that has tools' answers before the last answer which nobody has told of.

        So it is where what the last call was sent was lost, in whole or in part: nothing has been rewritten.
        """
        stands = next((index for index in range(at, len(turns)) if turns[index].role != "tool"), len(turns))
        count = self._matches(turns, stands, len(self._keys) - 1) if at < stands < len(turns) else 0
        if not count:
            return None
        between, behind = turns[at:stands], joined(_told(turns[stands + count :]))
        keys = self._keys[:-1] + array("q", map(key_of, between)) + self._keys[-1:] + array("q", map(key_of, behind))
        echo = turns[stands : stands + count]
        return Alignment("extension", between + behind, kept=len(self._keys), echo=echo, _keys=keys)

    def _extended(self, turns: list[Turn], at: int, echo_at: int) -> Alignment:
        new, known = joined(_told(turns[at:])), self._keys
        again = not new and len(known) > 0 and len(known) == self._printed
        echo = turns[echo_at:at] if self._answer else ()
        keys = known[:]
        keys.extend(map(key_of, new))
        return Alignment("retry" if again else "extension", new, kept=len(known), echo=echo, _keys=keys)

    def _matches(self, turns: list[Turn], at: int, place: int) -> int:
        """Return how many turns from `at` on are the known turn `place`: none, one, or several that it joins.

        Joined only where the joined turn is known: adjacent answers may as well be separate turns. The last
        answer is also known by the ids of its calls, since frameworks rewrite its text, and, in its place, by the tools
        that it calls, since instrumentors may tell its calls otherwise than they were.
        """
        known = self._keys[place]
        if key_of(turns[at]) == known:
            return 1
        if turns[at].role != "assistant":
            return 0
        whole = Turn("assistant", turns[at].parts)
        last = self._answer and place == len(self._keys) - 1
        if last and self._is_answer(whole):
            return 1
        for count, turn in enumerate(turns[at + 1 :], start=2):
            if turn.role != "assistant":
                break
            whole = Turn("assistant", whole.parts + turn.parts)
            if key_of(whole) == known or (last and self._is_answer(whole)):
                return count
        return 0

    def _is_answer(self, turn: Turn) -> bool:
        """Whether a turn, where the last answer stood, makes its calls."""
        ids = self._answer_ids
        return bool(ids and ids == _ids(turn)) or bool(self._answer_tools and self._answer_tools == _tools(turn))

    def _truncated(self, new: list[Turn], place: int) -> Alignment:
        new = joined(new)
        keys = self._keys[:place] + array("q", map(key_of, new))
        return Alignment("truncation", new, kept=place, dropped=len(self._keys) - place, _keys=keys)

    def _diverged(self, turns: list[Turn], at: int, place: int) -> Alignment:
        """Find the known tail further on in the request: then what stands before it replaced the rest."""
        keys = array("q", map(key_of, turns))
        end, length = self._tail(keys, at, place)
        if length:
            changed = turns[at : end - length]
            dropped = len(self._keys) - place - length
            kind: Kind = "compaction" if changed else "pruning"
            new = joined(turns[end:])
            keys = keys[:end] + array("q", map(key_of, new))
            return Alignment(kind, new, changed, place + length, dropped, _keys=keys)
        if place:
            return self._truncated(turns[at:], place)
        new = joined(turns)
        return Alignment("unrelated", new, dropped=len(self._keys), _keys=array("q", map(key_of, new)))

    def _tail(self, keys: array[int], at: int, place: int) -> tuple[int, int]:
        """Return where in `keys` the known tail ends, and how many turns of it stand there."""
        best = (0, 0)
        for end in range(len(keys), at, -1):
            length = 0
            while (
                length < end - at
                and length < len(self._keys) - place
                and keys[end - 1 - length] == self._keys[len(self._keys) - 1 - length]
            ):
                length += 1
            if length > best[1]:
                best = (end, length)
        return best


def _told(turns: list[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.parts or turn.role != "assistant"]


def _ids(turn: Turn) -> frozenset[str]:
    calls = turn.calls
    return frozenset([call.id for call in calls if call.id]) if calls else _NO_IDS


def _tools(turn: Turn) -> str:
    """Return the names of the tools that a turn calls, run together: some instrumentors do that to all of a call."""
    return "".join([call.name for call in turn.calls])


_NO_IDS: frozenset[str] = frozenset()

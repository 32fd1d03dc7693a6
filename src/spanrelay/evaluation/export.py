"""Trajectories to rows of training files: which conversations are wanted, and why others are left out.

Credentials are masked before anything else reads a document. One document is in memory at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from spanrelay import _json
from spanrelay.assembly.atif import Trajectory
from spanrelay.evaluation.conversations import Conversation, conversations
from spanrelay.evaluation.formats import harbor, openai_messages, sharegpt, trl
from spanrelay.evaluation.formats.row import Origin, Row
from spanrelay.evaluation.trials import trial_of
from spanrelay.records import JSON

FORMATS: dict[str, ModuleType] = {
    "openai-messages": openai_messages,
    "sharegpt": sharegpt,
    "trl": trl,
    "harbor": harbor,
}
"""By the names that users write."""

CHARACTERS_OF_A_TOKEN = 4
"""By which the length of a row is estimated whose model has not counted."""


@dataclass(slots=True)
class Wish:
    """Which rows are wanted, and how."""

    format: str
    only_successful: bool = False
    max_tokens: int | None = None
    agent: str | None = None
    reasoning: bool = True


@dataclass(slots=True)
class Export:
    """What has been written and left out so far. `mask` takes credentials out of a document."""

    wish: Wish
    mask: Callable[[JSON], JSON]
    documents: int = 0
    masked: int = 0
    rows: int = 0
    estimated: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])

    def lines(self, document: Any, path: Path) -> Iterator[bytes]:
        """Yield the rows of a document as lines of JSON.

        Raises:
            AtifError: it is no trajectory.
        """
        clean = self.mask(document)
        trajectory = Trajectory.from_json(clean)
        self.documents += 1
        self.masked += clean is not document
        origin = Origin(path, trial_of(path))
        for conversation in conversations(trajectory):
            yield from self._lines(conversation, origin)

    def _lines(self, conversation: Conversation, origin: Origin) -> Iterator[bytes]:
        why = self._why_not(conversation, origin)
        if why is not None:
            self.left_out[why] += 1
            return
        form: Any = FORMATS[self.wish.format]
        try:
            for row in form.rows(conversation, origin, reasoning=self.wish.reasoning):
                yield from self._line(row)
        except OSError as error:  # of a picture beside the document
            self.left_out[f"a picture cannot be read: {error.strerror}"] += 1

    def _line(self, row: Row) -> Iterator[bytes]:
        """Yield a row as a line, unless it is too long."""
        most, tokens = self.wish.max_tokens, row.tokens
        line = b"" if most is not None and tokens is not None and tokens > most else _json.dumps(row.content)
        if most is not None and tokens is None:
            self.estimated += 1
            tokens = len(line) // CHARACTERS_OF_A_TOKEN
        if most is not None and tokens is not None and tokens > most:
            self.left_out[f"it is longer than {most} tokens"] += 1
        else:
            self.rows += 1
            yield line + b"\n"

    def _why_not(self, conversation: Conversation, origin: Origin) -> str | None:
        """Why a conversation is left out."""
        wish, form = self.wish, FORMATS[self.wish.format]
        if wish.agent is not None and conversation.document.agent.name != wish.agent:
            return "another agent's"
        fault = next(iter(conversation.faults), None) or form.refusal(conversation)
        if fault is None and wish.only_successful:
            return conversation.failure or (origin.trial.failure if origin.trial else None)
        return fault

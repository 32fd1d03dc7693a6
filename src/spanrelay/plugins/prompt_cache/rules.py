"""What each provider caches, for how long and at what price: the one table of these numbers.

Each row says where its numbers are from and of when. Where sources differ, the dearer reading stands here. What no row
names is never marked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

API: TypeAlias = Literal["anthropic", "bedrock", "openai", "google"]
"""Whose rules hold for a request; `bedrock` is Converse."""
SOON_S, LATER_S = 300.0, 3600.0
"""Seconds that a mark of `5m` and one of `1h` keep what they end, from its last use."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How one model's prompts are cached.

    Attributes:
        minimum: Tokens that a cached prefix has at the least; shorter ones are not cached, and nobody says so.
        read: What a token that is read costs, in tokens of plain input.
        write_5m: What one that is written for five minutes costs.
        write_1h: What one that is written for an hour costs; None where there is no such mark.
        marks: How many a request may have.
        look_back: Blocks before a mark, its own among them, in which an entry is looked for.
        tools: Whether a mark may stand behind the tools.
        source: Where the numbers are from, and of when.
    """

    minimum: int
    read: float = 0.1
    write_5m: float = 1.25
    write_1h: float | None = 2.0
    marks: int = 4
    look_back: int = 20
    tools: bool = True
    source: str = ""


_PAGES = "platform.claude.com, Prompt caching, and prices of litellm 1.110.2; 2026-11"
_AWS = "Amazon Bedrock user guide, Prompt caching, and prices of litellm 1.110.2; 2026-11"

# The first row whose pattern is in the model's name holds: the newer stand before what their names begin with.
_CLAUDE: tuple[tuple[str, Rules], ...] = (
    (r"(fable|mythos)-5-1", Rules(512, read=0.025, source=_PAGES)),
    (r"(fable|mythos)-5", Rules(512, source=_PAGES)),
    (r"(opus|sonnet)-5-5", Rules(512, read=0.05, source=_PAGES)),
    (r"(opus-5|haiku-5-5)", Rules(512, source=_PAGES)),
    (r"sonnet-5", Rules(1024, source=_PAGES)),
    (r"opus-4-7", Rules(4096, source=f"{_PAGES}; 2 048 in the prices, 4 096 on the pages")),
    (r"(opus-4-[56]|haiku-4-5)", Rules(4096, source=_PAGES)),
    (r"(opus-4|sonnet-4)", Rules(1024, source=_PAGES)),
    (r"(haiku-3-5|3-5-haiku|3-haiku)", Rules(2048, source=_PAGES)),
    (r"(opus-3|sonnet-3|3-(5-|7-)?(sonnet|opus))", Rules(1024, source=_PAGES)),
)
_NOVA: tuple[tuple[str, Rules], ...] = (
    (r"nova", Rules(1024, read=0.25, write_5m=1.0, write_1h=None, tools=False, source=_AWS)),
)
_DATE = re.compile(r"-20\d{6}.*$|@.*$")


@lru_cache(256)
def rules_of(api: str, model: str) -> Rules | None:
    """Return the rules of a model at an API, by its name however a cloud spells that; None where nobody knows them."""
    name = _DATE.sub("", model.lower().replace(".", "-").replace("_", "-"))
    if api in ("anthropic", "bedrock") and "claude" in name:
        found = next((rules for pattern, rules in _CLAUDE if re.search(rf"(^|-){pattern}(-|$)", name)), None)
        if found is not None and api == "bedrock":
            # Which models keep an hour there, and which versions of the SDK know of it, the guide does not say.
            return replace(found, write_1h=None, source=f"{_AWS}; {found.source}")
        return found
    if api == "bedrock":
        return next((rules for pattern, rules in _NOVA if re.search(rf"(^|-){pattern}(-|$)", name)), None)
    return None

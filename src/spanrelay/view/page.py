"""Pages as HTML: the templates, and the policy by which a browser runs nothing and asks nobody.

Only our own style and script are let in, by their hashes; all else that is not a picture in the page is refused, so
that even a fault of a template would not let a document run or send anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from spanrelay.errors import ConfigurationError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


_BLOCK = 1 << 16
"""Characters that are written at once."""


def render(template: str, *, live: bool = False, **shown: object) -> Iterator[bytes]:
    """Yield a page in pieces, as it is made.

    Args:
        template: The name of a file in `files`, as `document.html`.
        live: Whether it is served, and asks its own address for what is new; else it asks nobody for anything.
        shown: What the template names. Texts are escaped; nothing else is made of them.

    Raises:
        ConfigurationError: the package that escapes is not installed.
    """
    environment = _environment()
    style, script = _file("page.css"), _file(f"{template.partition('.')[0]}.js")
    # Ours, and no document's: these two are the only texts that are not escaped.
    if live:
        script += _file("live.js")
    ours = {"style": _as_it_is(style), "script": _as_it_is(script), "policy": _policy(style, script, live=live)}
    pieces = environment.get_template(template).generate(**ours, live=live, **shown)
    return _in_blocks(pieces)


def check() -> None:
    """See that pages can be made, before somebody waits for one.

    Raises:
        ConfigurationError: the package that escapes is not installed.
    """
    _environment()


def _in_blocks(pieces: Iterator[str]) -> Iterator[bytes]:
    """Join pieces: a template makes one of every few words, and a list of them all would take more than the page."""
    waiting, size = list[str](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield "".join(waiting).encode("utf-8", "replace")
            waiting, size = [], 0
    yield "".join(waiting).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise ConfigurationError(f"the page needs {error.name}: pip install 'spanrelay[view]'") from None
    return Environment(
        autoescape=True,
        loader=FunctionLoader(_file),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _as_it_is(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _file(name: str) -> str:
    return (resources.files("spanrelay.view") / "files" / name).read_text("utf-8").replace("\r\n", "\n")


def _policy(style: str, script: str, *, live: bool) -> str:
    """What a browser may do with a page, as a Content Security Policy."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "img-src data:",
            *(["connect-src 'self'"] if live else []),
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

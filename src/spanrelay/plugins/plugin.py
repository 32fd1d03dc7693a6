"""What a plugin is: a name, a config model, `validate` and `register`; and what it is handed.

A plugin registers only through its context, so that whatever it did can be taken back. No value of a secret is
ever part of a diagnostic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from spanrelay._guard import guarded
from spanrelay.errors import ConfigurationError

if TYPE_CHECKING:
    from spanrelay.pipeline.middleware import Mode
    from spanrelay.registry import Handle
    from spanrelay.scopes import Registrable

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong in a configuration: what, where and what to do.

    `key` is the path of the key, such as `tools.deny`; a plugin gives it relative to its own table, and `file` is
    filled in for it. An error keeps the plugin from being installed.
    """

    message: str
    remedy: str = ""
    key: str = ""
    level: Literal["error", "warning"] = "error"
    file: str = ""

    def __str__(self) -> str:
        """`file: key: message; remedy`."""
        place = "".join(f"{part}: " for part in (self.file, self.key) if part)
        return f"{place}{self.message}" + (f"; {self.remedy}" if self.remedy else "")


class Secret:
    """Text that nobody is to see: a field of this type takes text, and `repr` shows none of it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a Secret must not be pickled; pass on what reveal() returns where that is needed")


class Context:
    """What `register` is handed: the config, and the ways to put something in force.

    Attributes:
        config: The config model, read from the plugin's table.
        name: The plugin's name, with a number where several files configure it; registered names begin with it.
        file: The file that configures the plugin, or an empty string.
        stops_unguarded: Whether what no instrumentor guards may not ask a model; the plugin may say so.
        mode: `observe` puts on trial what is registered, unless the middleware says a mode itself.
        place: What the file is, whichever others there are: `system`, `declarative`, the name of one that another
            includes, or an empty string.
        optional: Whether the application may leave out what is registered, by `spanrelay.without`.
    """

    def __init__(
        self,
        config: Any,
        name: str,
        file: str = "",
        mode: Mode = "enforce",
        place: str = "",
        *,
        optional: bool = False,
    ) -> None:
        self.config = config
        self.name = name
        self.file = file
        self.stops_unguarded = False
        self.mode: Mode = mode
        self.place = place
        self.optional = optional
        self.entries: list[Registrable] = []
        self._handles: list[Handle] = []
        self._undo: list[Callable[[], None]] = []
        self._closed = False

    def use(self, entry: Registrable) -> Handle:
        """Put middleware or an observer in force for the whole process, named `<plugin>.<its name>`.

        A gate of others does not switch it off.

        Raises:
            ConfigurationError: one of that name is there already, or the plugin has been taken out of force.
        """
        self._check_open()
        entry = named(entry, f"{self.name}.{getattr(entry, 'name', type(entry).__name__)}", self.mode)
        if hasattr(entry, "plugin"):
            entry = replace(entry, plugin=self.name, optional=self.optional)  # pyright: ignore[reportArgumentType] - it is middleware
        handle = entry.register(None)
        self.entries.append(entry)
        self._handles.append(handle)
        self._undo.append(handle.remove)
        return handle

    def on_close(self, function: Callable[[], None]) -> None:
        """Call `function` when the plugin is taken out of force, last registered first."""
        self._check_open()
        self._undo.append(function)

    def withdraw(self) -> None:
        """Take out what was registered, and leave the rest as it is."""
        for handle in reversed(self._handles):
            handle.remove()

    def close(self) -> None:
        """Take back what was put in force, in reverse; a step that fails does not keep the others from running."""
        self._closed = True
        while self._undo:
            with guarded(f"taking plugin {self.name!r} out of force"):
                self._undo.pop()()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(
                f"plugin {self.name!r} is no longer in force; register everything inside register(context)"
            )


def named(entry: R, name: str, mode: Mode) -> R:
    """Return a copy of `entry`, middleware or an observer, that is called `name`, and has `mode` if it has none."""
    if getattr(entry, "mode", mode) is None:
        return replace(entry, name=name, mode=mode)  # pyright: ignore[reportArgumentType] - as below
    return replace(entry, name=name)  # pyright: ignore[reportArgumentType] - both are dataclasses


class Plugin(Protocol):
    """A plugin: found by an entry point of the group `spanrelay_plugin`, configured by `[plugins.<name>]`.

    The entry point names the class or an object. One object serves every file that configures it, and every
    reload.
    """

    name: str
    """The entry point's name, and that of its table."""
    config_model: type
    """A dataclass; its fields are the keys of the table."""

    def validate(self, config: Any) -> list[Diagnostic]:
        """Return what is wrong with a config that has the right fields and types."""
        ...

    def register(self, context: Context) -> None:
        """Put in force what `context.config` asks for. After an exception everything is taken back."""
        ...

"""Reads `spanrelay.toml` and its like: what the files include and what their `${NAME}` stand for, as layers.

A layer adds to those above it and can loosen none of them. A file that nobody chose, found in the working
directory, may neither send anything anywhere, nor run code, nor read the environment.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from spanrelay import config
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.config import PolicyFile
from spanrelay.plugins.plugin import Diagnostic
from spanrelay.plugins.reading import FromEnvironment, joined, meaning

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OnFailure: TypeAlias = Literal["stop", "warn"]
Mode: TypeAlias = Literal["enforce", "observe"]

TOP = ("include", "plugins", "policy")
"""The tables and keys at the top of a file."""
SENDING = frozenset({"endpoint", "endpoints", "header", "headers", "sink", "sinks", "url"})
"""Keys that send data somewhere, whatever the plugin."""
RUNNING = frozenset({"config_path", "config_yaml", "factory"})
"""Keys that name code to run, or name models to send to, whatever the plugin."""
_REFERENCE = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


@dataclass(slots=True)
class Layer:
    """What one file says. `plugins` are its tables by plugin name, with `${NAME}` replaced."""

    file: str
    on_failure: OnFailure
    place: str = ""
    """What the file is, whichever others there are: the system's, one that another includes, or else the program's."""
    mode: Mode = "enforce"
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    """What the environment put in: kept out of every message."""


def read_layers(files: Iterable[PolicyFile]) -> tuple[list[Layer], list[Diagnostic]]:
    """Return the layers of `files` (as `config.policy_files` lists them), the highest first, and what is wrong."""
    reading = _Reading()
    for file in files:
        read = _yaml_section if file.origin == "declarative" else _toml
        place = file.origin if file.origin in ("system", "declarative") else ""
        reading.file(file.path, "stop", place, chosen=file.origin != "directory", read=read)
    return reading.layers, reading.found


def _toml(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None


def _yaml_section(content: bytes) -> dict[str, Any]:
    """Return the section `distribution: spanrelay:` of a declarative configuration of OpenTelemetry."""
    import yaml  # an optional dependency, there where the SDK can read such a file

    try:
        document: Any = yaml.safe_load(content.decode("utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {line_of(error)}") from None
    section: Any = document
    for name in ("distribution", "spanrelay"):
        section = cast("dict[str, Any]", section).get(name) if isinstance(section, dict) else None
    if section is not None and not isinstance(section, dict):
        raise ValueError("distribution.spanrelay is not a mapping")
    return cast("dict[str, Any]", section or {})


def line_of(error: Any) -> str:
    """Where a YAML error is; its own text quotes the file, and with it what may be a secret."""
    mark = getattr(error, "problem_mark", None)
    return str(getattr(error, "problem", None) or "unreadable") + (f" (at line {mark.line + 1})" if mark else "")


def _remedy_of(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "create it, or correct the name"
    if isinstance(error, PermissionError):
        return "give this user permission to read it"
    return "name a file, such as spanrelay.toml"


def _remedy_of_line(problem: str) -> str:
    """What to do about a line, by the words of the parser."""
    if "Cannot overwrite" in problem or "Cannot declare" in problem:
        return "it is there twice: remove one"
    if "Invalid value" in problem:
        return "put text in quotes; true and false are in lower case"
    return "fix this line"


class _Reading:
    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.found: list[Diagnostic] = []
        self._open: list[str] = []
        self._stop_demanded = False

    def file(
        self,
        path: str,
        inherited: OnFailure,
        place: str,
        *,
        chosen: bool,
        read: Callable[[bytes], dict[str, Any]] = _toml,
    ) -> None:
        """Read one file, after those it includes: they are above it."""
        document = self._document(path, read)
        if document is None:
            # It cannot have said that a failure is to be a warning.
            self.layers.append(Layer(path, "stop", place))
            return
        layer = Layer(path, inherited, place)
        document = self._replaced(document, layer, chosen)
        for name in document:
            if name not in TOP:
                below = f"write it below [plugins.<name>]; at the top there are only {', '.join(TOP)}"
                self._say(path, name, "is not known", meaning(name, TOP) or below)
        layer.mode = self._mode(path, as_mapping(document.get("policy")).get("mode", "enforce"))
        layer.on_failure = self._on_failure(path, document.get("policy", {}), inherited)
        self._includes(path, document.get("include", []), layer.on_failure, chosen)
        if read is _toml and not document:
            remedy = "write [plugins.<name>] with its settings, or remove the file"
            self._say(path, "", "says nothing, so it puts nothing in force", remedy, "warning")
        layer.plugins = self._plugins(path, document["plugins"]) if "plugins" in document else {}
        self.layers.append(layer)

    def _document(self, path: str, read: Callable[[bytes], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(0, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
            return read(Path(path).read_bytes())
        except OSError as error:
            by = f", which {self._open[-1]!r} includes" if self._open else ""
            self._say(path, "", f"cannot be read: {error.strerror}{by}", _remedy_of(error))
        except UnicodeDecodeError:
            self._say(path, "", "is not UTF-8", "save it as UTF-8")
        except ModuleNotFoundError as error:
            self._say(path, "", f"cannot be read without {error.name}", "pip install 'spanrelay[config-file]'")
        except ValueError as error:
            other = read is _toml and not path.endswith(".toml")
            self._say(path, "", str(error), "write the file as TOML" if other else _remedy_of_line(str(error)))
        except RecursionError:
            self._say(path, "", "is nested too deeply", "nest it less deeply")
        return None

    def _on_failure(self, path: str, policy: Any, inherited: OnFailure) -> OnFailure:
        if not isinstance(policy, dict):
            self._say(path, "policy", "is not a table", 'write [policy] and on_failure = "stop" below it')
            return "stop"
        policy = cast("dict[str, Any]", policy)
        for name in policy.keys() - {"on_failure", "mode"}:
            self._say(path, f"policy.{name}", "is not known", f"did you mean [plugins.policy] {name}?")
        own: Any = policy.get("on_failure", inherited)
        if own not in ("stop", "warn"):
            self._say(path, "policy.on_failure", "is not one of the choices", "write 'stop' or 'warn'")
            return "stop"
        if own == "warn" and self._stop_demanded:
            remedy = "remove it; only the file above can allow it"
            self._say(path, "policy.on_failure", "has no effect, since a file above says 'stop'", remedy, "warning")
            return "stop"
        self._stop_demanded = self._stop_demanded or policy.get("on_failure") == "stop"
        return own

    def _mode(self, path: str, mode: Any) -> Mode:
        if mode in ("enforce", "observe"):
            return mode
        self._say(path, "policy.mode", "is not one of the choices", "write 'enforce' or 'observe'")
        return "enforce"

    def _includes(self, path: str, names: Any, on_failure: OnFailure, chosen: bool) -> None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[Any]", names)):
            self._say(path, "include", "is not a list of strings", 'write include = ["other.toml"]')
            return
        self._open.append(os.path.realpath(path))
        for name in cast("list[str]", names):
            included = os.path.realpath(os.path.join(os.path.dirname(path), os.path.expanduser(name)))
            if included in self._open:
                self._say(
                    path,
                    "include",
                    f"includes {included!r}, which includes this file",
                    "remove one of the two includes",
                )
            elif all(layer.file != included for layer in self.layers):
                self.file(included, on_failure, os.path.basename(included), chosen=chosen)
        self._open.pop()

    def _plugins(self, path: str, plugins: Any) -> dict[str, dict[str, Any]]:
        if not isinstance(plugins, dict):
            self._say(path, "plugins", "is not a table", "write [plugins.<name>] for each plugin")
            return {}
        if not plugins:
            remedy = "write [plugins.<name>] with its settings, or remove the table"
            self._say(path, "plugins", "is empty, so this file puts nothing in force", remedy, "warning")
        tables: dict[str, dict[str, Any]] = {}
        for name, table in cast("dict[str, Any]", plugins).items():
            if isinstance(table, dict):
                tables[name] = cast("dict[str, Any]", table)
            else:
                self._say(path, joined("plugins", name), "is not a table", f"write [{joined('plugins', name)}]")
        return tables

    def _replaced(self, document: dict[str, Any], layer: Layer, chosen: bool) -> dict[str, Any]:
        """Return the document with every `${NAME}` replaced; where nobody chose the file, tell what it may not say."""
        if not chosen:
            for key, name, value in _walk(document, ""):
                self._check_found(layer.file, key, name, value)
            return document
        return cast("dict[str, Any]", self._value(document, "", layer))

    def _check_found(self, path: str, key: str, name: str, value: Any) -> None:
        remedy = f"move it to a file that SPANRELAY_CONFIG names, or name this one: SPANRELAY_CONFIG={path}"
        if name in SENDING:
            self._say(path, key, "sends data somewhere, which a file found in the working directory may not", remedy)
        elif name in RUNNING:
            self._say(path, key, "runs code, which a file found in the working directory may not", remedy)
        elif isinstance(value, str) and "${" in value:
            self._say(path, key, "has a ${…}, which a file found in the working directory may not", remedy)

    def _value(self, value: Any, key: str, layer: Layer) -> Any:
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            return {name: self._value(item, joined(key, name), layer) for name, item in items}
        if isinstance(value, list):
            return [self._value(item, f"{key}[{at}]", layer) for at, item in enumerate(cast("list[Any]", value))]
        return self._text(value, key, layer) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, key: str, layer: Layer) -> str:
        def put(found: re.Match[str]) -> str:
            escaped, name, default = found.groups()
            if escaped:
                return found[0][1:]
            if name is None:
                self._say(layer.file, key, "has a ${ that names no variable", "write ${NAME}, or $${ for the text ${")
                return ""
            value = config.variable(name)
            value = value if value else default
            if value is None:
                self._say(layer.file, key, f"needs the variable {name}, which is not set", f"set it, or ${{{name}:-…}}")
                return ""
            layer.secrets.append(value)
            return value

        return FromEnvironment(_REFERENCE.sub(put, text))

    def _say(
        self, file: str, key: str, message: str, remedy: str, level: Literal["error", "warning"] = "error"
    ) -> None:
        self.found.append(Diagnostic(message, remedy, key, level, file))


def _walk(value: Any, key: str, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value with its path and the nearest key."""
    yield key, name, value
    if isinstance(value, Mapping):
        for inner, item in cast("Mapping[str, Any]", value).items():
            yield from _walk(item, joined(key, inner), inner)
    elif isinstance(value, list):
        for at, item in enumerate(cast("list[Any]", value)):
            yield from _walk(item, f"{key}[{at}]")

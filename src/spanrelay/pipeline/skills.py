"""Which skills a tool call loads: an agent that reads `<skill>/SKILL.md` whole, by whatever tool.

Pure. The rules are NeMo Relay's: a skill tool, a reader of files, or a shell with a single whole-file read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

SKILL_LOAD = "skill.load"
"""The name of the mark on the tool's span."""

_TOOLS = frozenset({"skill", "skill_view"})
_READERS = frozenset(
    {
        "read",
        "read_file",
        "read_text_file",
        "read_multiple_files",
        "file_read",
        "read_resource",
        "get_file_contents",
        "read_file_content",
    }
)
_SHELLS = frozenset(
    {
        "sh",
        "bash",
        "zsh",
        "fish",
        "shell",
        "exec",
        "execute",
        "terminal",
        "run_command",
        "run_shell_command",
        "execute_command",
        "powershell",
        "pwsh",
    }
)
_NAMES = ("skill", "skill_name", "name")
_PATHS = ("path", "file_path", "filepath", "filename", "file", "uri", "paths", "files", "target_file")
_COMMANDS = ("command", "cmd", "script", "input")
_PARTS = ("limit", "range", "head", "tail", "start_line", "end_line", "line_start", "line_end")
_OFF_LIMITS = re.compile(r"[|<>;&`\n]|\$\(")
_WRAPPERS = frozenset({"sh", "bash", "zsh"})
_SEPARATORS = re.compile(r"[.:/]+|__")


def skills_loaded(tool: str, arguments: Any) -> list[tuple[str, str]]:
    """Return each distinct skill that a call of `tool` loads, and how.

    How is `skill_tool`, `structured_read` or `shell_read`.
    """
    name = _last_segment(tool)
    if name in _TOOLS:
        return _once(_named(arguments), "skill_tool")
    if name in _READERS:
        return _once(_read(arguments), "structured_read")
    if name in _SHELLS:
        return _once(_shown(arguments), "shell_read")
    return []


@lru_cache(1024)
def _last_segment(tool: str) -> str:
    """Return the last part of a tool's name in snake case: `mcp__fs__ReadFile` is `read_file`."""
    last = _SEPARATORS.split(tool.rstrip("./:"))[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+", "_", last).lower()


def _once(skills: Iterator[str], source: str) -> list[tuple[str, str]]:
    return [(skill, source) for skill in dict.fromkeys(skills)]


def _named(arguments: Any) -> Iterator[str]:
    for value in _fields(arguments, _NAMES):
        if isinstance(value, str) and value.strip():
            yield value.strip()
            return


def _read(arguments: Any) -> Iterator[str]:
    if isinstance(arguments, Mapping):
        given = cast("Mapping[str, Any]", arguments)
        if given.get("offset") not in (None, 0) or any(given.get(part) is not None for part in _PARTS):
            return
    for value in _fields(arguments, _PATHS):
        for path in cast("list[Any]", value) if isinstance(value, list) else [value]:
            yield from _skill_of(path)


def _shown(arguments: Any) -> Iterator[str]:
    for value in _fields(arguments, _COMMANDS):
        words = cast("list[Any]", value) if isinstance(value, list) else _words(value)
        if all(isinstance(word, str) for word in words):
            yield from _file_shown(cast("list[str]", words))


def _words(command: Any) -> list[str]:
    if not isinstance(command, str) or _OFF_LIMITS.search(command):
        return []
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _file_shown(words: list[str]) -> Iterator[str]:
    """Yield the skill whose file a command shows whole, within at most one shell around it."""
    if len(words) == 3 and words[0].rpartition("/")[2] in _WRAPPERS and words[1] in ("-c", "-lc"):
        words = _words(words[2])
    if not words:
        return
    program, options, files = words[0], [w for w in words[1:] if w[:1] == "-"], [w for w in words[1:] if w[:1] != "-"]
    whole = {
        "cat": set(options) <= {"-u"},
        "bat": bool({"-p", "--plain"} & set(options)) and set(options) <= {"-p", "--plain"},
        "batcat": bool({"-p", "--plain"} & set(options)) and set(options) <= {"-p", "--plain"},
        "get-content": not options or options == ["-Path"] or options == ["-Raw"],
    }
    if len(files) == 1 and whole.get(program.lower(), False):
        yield from _skill_of(files[0])


def _skill_of(path: Any) -> Iterator[str]:
    if not isinstance(path, str):
        return
    *_, parent, file = ["", *path.replace("\\", "/").split("/")] if "/" in path or "\\" in path else ["", "", path]
    if file.lower() == "skill.md" and parent not in ("", ".", ".."):
        yield parent


def _fields(arguments: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """Yield what stands under `names`; a lone text is what every name would hold."""
    if isinstance(arguments, str):
        yield arguments
    elif isinstance(arguments, Mapping):
        given = cast("Mapping[str, Any]", arguments)
        for name in names:
            if name in given:
                yield given[name]

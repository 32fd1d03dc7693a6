"""Two accounts of one session become one: neither tells anything twice.

The first has the word on what was said; the second adds what it alone knows: spans and their times, costs, requests
that came to nothing, and what the first does not reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from spanrelay.otlp_in.accounts import Account, Call, Prompt, Run, Thread
from spanrelay.records import ErrorInfo, Message, Usage

T = TypeVar("T", Prompt, Call, Run)
R = TypeVar("R", Usage, Thread, ErrorInfo)


def all_joined(first: Iterable[Account], second: Iterable[Account]) -> list[Account]:
    """Return the accounts of all sessions, those of the same session joined."""
    others = {account.session: account for account in second}
    found = [joined(each, others.pop(each.session)) if each.session in others else each for each in first]
    return found + list(others.values())


def joined(first: Account, second: Account) -> Account:
    """Return what both accounts tell."""
    found = replace(first, version=first.version or second.version, resource=first.resource or second.resource)
    found.session = first.session or second.session
    found.threads = {key: _of_both(first.threads.get(key), second.threads.get(key)) for key in _keys(first, second)}
    return found


def _keys(first: Account, second: Account) -> list[str]:
    return [*first.threads, *(key for key in second.threads if key not in first.threads)]


def _of_both(first: Thread | None, second: Thread | None) -> Thread:
    if first is None or second is None:
        found = first or second
        assert found is not None
        return found
    whole = _filled(first, second)
    names = _same_calls(first, second)
    calls = {names.get(key, key): replace(call, key=names.get(key, key)) for key, call in second.calls.items()}
    runs = {key: replace(run, call=names.get(run.call or "", run.call)) for key, run in second.runs.items()}
    whole.calls = _merged(first.calls, calls)
    whole.runs = _merged(first.runs, runs)
    whole.prompts = _merged(first.prompts, {each.key: each for each in _other_prompts(first, second)})
    return whole


def _other_prompts(first: Thread, second: Thread) -> list[Prompt]:
    """Return the prompts of `second` that `first` has too, by the same ids, and those of times that it does not reach.

    One without its id is known by its words.
    """
    times = [prompt.time for prompt in first.prompts.values()] + [call.end for call in first.calls.values()]
    reach = range(min(times, default=0), max(times, default=0) + 1) if first.prompts else range(0)
    said = Counter(_words(each) for each in first.prompts.values() if each.key not in second.prompts)
    found: list[Prompt] = []
    for each in sorted(second.prompts.values(), key=lambda prompt: (prompt.time, prompt.key)):
        if each.key in first.prompts:
            found.append(each)
        elif said[_words(each)]:
            said[_words(each)] -= 1
        elif each.time not in reach:
            found.append(each)
    return found


def _words(prompt: Prompt) -> str:
    return Message(prompt.role, prompt.parts).text


def _same_calls(first: Thread, second: Thread) -> dict[str, str]:
    """Return by which keys `first` has the calls of `second` that have others there.

    They agree in another id or in a tool that they ask for, or else, in order, in what was counted, in that both
    failed, or, before anything was counted, in when they were.
    """
    found: dict[str, str] = {}
    left = [call for call in first.in_order() if call.key not in second.calls]
    asked: dict[str, set[str]] = {}
    for key, caller in second.callers().items():
        asked.setdefault(caller.key, set()).add(key)
    for call in second.in_order():
        if call.key in first.calls:
            continue
        ids = call.names | asked.get(call.key, set())
        same = next((each for each in left if ids & (each.names | {tool.id or "" for tool in each.tools})), None)
        same = same or next((each for each in left if _counts(each) == _counts(call) is not None), None)
        same = same or next((each for each in left if each.error is not None and call.error is not None), None)
        same = same or next((each for each in left if not each.usage and call.start <= each.start <= call.end), None)
        if same is not None:
            found[call.key] = same.key
            del left[: left.index(same) + 1]
    return found


def _counts(call: Call) -> tuple[int | None, int | None, int | None] | None:
    usage = call.usage
    return None if usage is None else (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)


def _merged(first: dict[str, T], second: dict[str, T]) -> dict[str, T]:
    """Return everything of both, what both tell once."""
    found: dict[str, T] = {key: _with(each, second[key]) if key in second else each for key, each in first.items()}
    return found | {key: each for key, each in second.items() if key not in first}


def _with(first: T, second: T) -> T:
    """Return what the first tells, and what only the second does; when it was, a span knows best."""
    found = _filled(first, second)
    if isinstance(found, Prompt) or isinstance(second, Prompt) or isinstance(first, Prompt):
        return found
    if second.place is not None:
        found.start, found.end = second.start, second.end
    if isinstance(found, Call) and isinstance(first, Call) and isinstance(second, Call):
        found.names = first.names | second.names
        if first.usage is not None and second.usage is not None:
            found.usage = _filled(first.usage, second.usage)
        if first.error is not None and second.error is not None:
            found.error = _filled(first.error, second.error)
    return found


def _filled(first: T | R, second: T | R) -> T | R:
    """Return a copy of `first` whose gaps are filled from `second`."""
    gaps = {
        each.name: getattr(second, each.name) for each in fields(first) if getattr(first, each.name) in (None, [], "")
    }
    return replace(first, **gaps)

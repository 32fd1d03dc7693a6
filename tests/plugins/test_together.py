"""Registrations that are made together are seen together, and nobody else's get lost meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from spanrelay import ConfigurationError, guardrail
from spanrelay.registry import Registry, together


def entry(name: str) -> Any:
    return guardrail(name=name)(lambda call: None)


def names(registry: Registry[Any]) -> list[str]:
    return [each.name for each in registry.entries]


def test_a_change_is_seen_when_its_block_ends() -> None:
    registry: Registry[Any] = Registry()
    old = registry.add(entry("a"))
    with together():
        old.remove()
        registry.add(entry("a"))
        registry.add(entry("b")).remove()
        registry.add(entry("c"))
        assert names(registry) == ["a"]
    assert names(registry) == ["a", "c"]


def test_after_an_error_nothing_has_changed() -> None:
    registry: Registry[Any] = Registry()
    old = registry.add(entry("a"))
    with pytest.raises(ZeroDivisionError), together():
        old.remove()
        registry.add(entry("b"))
        raise ZeroDivisionError
    assert names(registry) == ["a"]
    old.remove()
    assert names(registry) == []


def test_a_name_is_unique_among_what_will_be() -> None:
    registry: Registry[Any] = Registry()
    registry.add(entry("a"))
    with together(), pytest.raises(ConfigurationError, match="'a' is already registered"):
        registry.add(entry("a"))
    with together(), pytest.raises(ConfigurationError, match="'b' is already registered"):
        registry.add(entry("b"))
        registry.add(entry("b"))


def test_what_other_threads_register_meanwhile_is_seen_at_once_and_kept() -> None:
    registry: Registry[Any] = Registry()
    theirs = registry.add(entry("theirs"))
    with together():
        registry.add(entry("ours"))
        thread = threading.Thread(target=lambda: (theirs.remove(), registry.add(entry("new"))))
        thread.start()
        thread.join()
        assert names(registry) == ["new"]
    assert names(registry) == ["new", "ours"]

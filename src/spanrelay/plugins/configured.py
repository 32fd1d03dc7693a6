"""Installs, once in a process, what its configuration files ask for.

Imports nothing unless there is such a file: every process that boots with us comes here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from spanrelay import config

_lock = threading.Lock()
_looked = False


def _free() -> None:
    """Take a lock that nobody holds: a forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)


def install_configured(chosen: str = "") -> None:
    """Look for configuration files, the first time this is called, and put in force what they ask for.

    Args:
        chosen: The file that was chosen; by default the first that there is.

    Raises:
        ConfigurationError: it cannot be put in force, and the files do not say that a warning is enough.
    """
    global _looked
    with _lock:
        if _looked:
            return
        files = config.policy_files(chosen)
        if files:
            from spanrelay.plugins.activation import install  # and with it the pipeline

            install(files)
        _looked = True


def pass_by() -> Callable[[], None]:
    """Look for no files from now on: what is in force is said otherwise. Returns what ends that."""
    global _looked
    with _lock:
        before, _looked = _looked, True
    return lambda: None if before else forget()


def forget() -> None:
    """Look again the next time, as after `Activation.close()`."""
    global _looked
    with _lock:
        _looked = False

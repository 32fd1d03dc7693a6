"""A file of policy, in force while a test runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation


@contextmanager
def in_force(folder: Path, text: str) -> Generator[None]:
    """Write `text` as the configuration in `folder`, and have the process keep to it.

    Raises:
        ConfigurationError: something in `text` is not known.
    """
    file = folder / "spanrelay.toml"
    file.write_text(text)
    activation = Activation([PolicyFile(str(file), "chosen")])
    activation.start()
    try:
        yield
    finally:
        activation.close()

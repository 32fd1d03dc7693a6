"""The SDKs of the suite, a file for each family; a file that stands here is found."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from spanrelay_testkit.conformance.driver import Driver


def all_drivers() -> list[Driver]:
    """Return every driver there is, whether its SDK is installed or not."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [driver for module in modules for driver in module.DRIVERS]

"""The whole suite: which driver serves which exchange, every trial, and why an exchange is served by none."""

from __future__ import annotations

import gc
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spanrelay_testkit.capture import read_nothing
from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.drivers import all_drivers
from spanrelay_testkit.conformance.exchanges import Exchange, exchanges_in, runs_of
from spanrelay_testkit.conformance.trial import Trial, tried, tried_run, ways_of


@dataclass
class Plan:
    """What is tried: pairs of driver and exchange, runs, and what is left out."""

    pairs: list[tuple[Driver, Exchange]] = field(default_factory=list[tuple[Driver, Exchange]])
    runs: list[tuple[Driver, list[Exchange]]] = field(default_factory=list[tuple[Driver, list[Exchange]]])
    unserved: list[tuple[Exchange, str]] = field(default_factory=list[tuple[Exchange, str]])


def plan(folder: Path | None = None, drivers: Sequence[Driver] | None = None) -> Plan:
    """Return what is to be tried of a folder, by the drivers whose SDK is installed; nothing without a folder."""
    made, exchanges = Plan(), exchanges_in(folder) if folder is not None else []
    drivers = all_drivers() if drivers is None else drivers
    for exchange in exchanges:
        reasons = {driver: why_not(driver, exchange) for driver in drivers if driver.covers(exchange)}
        able = [driver for driver, reason in reasons.items() if reason is None]
        made.pairs += [(driver, exchange) for driver in able]
        if not able:
            told = "; ".join(dict.fromkeys(reason for reason in reasons.values() if reason))
            made.unserved.append((exchange, told or "no driver serves this API of this provider"))
    for run in runs_of(exchanges).values():
        for driver in drivers:
            members = [each for each in run if (driver, each) in made.pairs]
            if len(members) > 1 and any(each.converses for each in members):
                made.runs.append((driver, members))
    return made


def why_not(driver: Driver, exchange: Exchange) -> str | None:
    """Why a driver cannot serve an exchange of its own."""
    if not driver.is_here:
        return f"{driver.sdk} or its instrumentor is not installed"
    return driver.why_not(exchange)


async def trials_of(made: Plan) -> AsyncIterator[Trial]:
    """Try everything of a plan."""
    with pytest.MonkeyPatch.context() as patch:
        # Reading the certificates of this machine takes longer than a call, and no server here has one.
        patch.setattr(ssl.SSLContext, "load_verify_locations", read_nothing)
        for driver, exchange in made.pairs:
            for way in ways_of(driver):
                gc.freeze()  # each trial looks for what it left behind: of what came to stay there is nothing to see
                yield await tried(driver, exchange, way)
        for driver, run in made.runs:
            yield await tried_run(driver, run)

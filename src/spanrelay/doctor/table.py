"""The checks in the order in which a trace is looked for: what starts, what is patched, what is set, where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.doctor import clock, declaration, endpoint, folder, launcher, policy, sdks, variables
from spanrelay.doctor.findings import Case, Finding
from spanrelay.doctor.hiding import Hiding

Check: TypeAlias = Callable[[Case], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "launcher": launcher.launcher,
    "distro": launcher.distro,
    "sdks": sdks.sdks,
    "settings": variables.names,
    "policy": policy.policy,
    "sampling": variables.sampling,
    "exporters": endpoint.exporters,
    "clock": clock.clock,
    "content": variables.content,
    "limits": variables.limits,
    "trajectories": folder.trajectories,
    "earlier runs": folder.left,
}


def case_here(*, offline: bool = False) -> Case:
    """Return what there is to look at in this environment."""
    settings, problems = config.load()
    environment = config.inherited()
    return Case(environment, settings, tuple(problems), offline, declaration.read(environment))


def examine(case: Case) -> Iterator[Finding]:
    """Yield what every check finds, without secrets; one that fails is told, and the others go on."""
    hiding = Hiding(case.environment)
    for name, check in CHECKS.items():
        yield from (replace(finding, check=name).hidden(hiding) for finding in _found(check, case))


def try_out(case: Case, command: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Run a program for a moment, and yield what it shows, without secrets.

    Raises:
        SpanRelayError: it cannot be started.
    """
    from spanrelay.doctor import reading, trial  # what only this needs, the receiver among it

    hiding = Hiding(case.environment)
    ran = trial.run_app(command, case, seconds)
    for finding in reading.read(ran, case):
        yield replace(finding, check=reading.CHECK).hidden(hiding)


def _found(check: Check, case: Case) -> list[Finding]:
    try:
        return list(check(case))
    except Exception as error:
        pass_on(error)
        told = f"this could not be checked: {type(error).__name__}: {error}"
        return [Finding("warn", told, "nothing is known of it", "tell us, with this line")]


def prospect(case: Case) -> str:
    """Return what a program that is started here would record, and where."""
    settings = case.settings
    if settings.disabled:
        return "a program started here would record nothing"
    on_disk = settings.trajectories in ("on", "all") and settings.content != "off"
    kept = f"write trajectories to {settings.trajectory_directory}" if on_disk else "write no trajectories"
    places = [sender.place for sender in endpoint.senders(case, "traces")]
    names = [place.shown for place in places if place is not None] + sorted(endpoint.others(case))
    text = "with" if settings.spans_have_content else "without"
    sent = f"send spans to {', '.join(names)}, {text} message content" if names else "send no spans"
    return Hiding(case.environment)(f"a program started here would {kept} and {sent}")

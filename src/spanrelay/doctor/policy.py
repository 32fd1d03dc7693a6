"""Which policy files count here, whether they are valid, and what they would put in force."""

from __future__ import annotations

from collections.abc import Iterator

from spanrelay import config
from spanrelay.config import PolicyPlace
from spanrelay.doctor.findings import Case, Finding
from spanrelay.plugins.activation import Plan, make_plan
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.unguarded import unguarded


def policy(case: Case) -> Iterator[Finding]:
    """Look at the files that a program started here would read."""
    places = config.policy_places(case.settings.config_file, case.environment)
    read = [place for place in places if not place.why_not]
    plan = make_plan([place.file for place in read], Shelf())
    if not read:
        yield Finding("pass", "no policy file: nothing is refused or rewritten")
    for place in read:
        yield from _of(place, plan)
    for place in places:
        if place.why_not.startswith("not read"):
            yield Finding("pass", f"the policy file of {place.name}, {place.file.path}, is {place.why_not}")
    if plan.components:
        names = [f"{each.name} (on trial)" if each.mode == "observe" else each.name for each in plan.components]
        yield Finding("pass", f"in force would be: {', '.join(names)}")
        for told in unguarded():
            what, _, remedy = told.partition("; ")
            yield Finding("warn", what, "the configured policy does not hold for it", remedy)


def _of(place: PolicyPlace, plan: Plan) -> Iterator[Finding]:
    path = place.file.path
    found = [diagnostic for diagnostic in plan.diagnostics if diagnostic.file == path]
    for diagnostic in found:
        error = diagnostic.level == "error"
        yield Finding(
            "fail" if error else "warn",
            f"the policy file {path}, named by {place.name}: {diagnostic.key or 'file'}: {diagnostic.message}",
            ("a program does not start with it" if plan.must_stop() else "that part of it is left out") * error,
            diagnostic.remedy or "`spanrelay plugins validate` says more",
        )
    if not found:
        yield Finding("pass", f"the policy file {path} is valid; it counts for {place.name}")

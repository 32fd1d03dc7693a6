"""The plugin `pii_redaction`: personal data and credentials are taken out of what is recorded.

It changes records only, never a call; what it cannot redact is left out of the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from spanrelay.errors import ConfigurationError
from spanrelay.observation.declarations import sanitizer
from spanrelay.observation.observers import Field, FieldName, Observer
from spanrelay.plugins.pii import DETECTORS, Action, Redactor, Rule, problems
from spanrelay.plugins.plugin import Context, Diagnostic, Secret
from spanrelay.records import JSON

ALWAYS: tuple[FieldName, ...] = ("error", "name", "attribute", "identifiers", "resource", "body")
"""Fields without a switch: what they say may come from any of the others."""
SWITCHES: dict[str, tuple[FieldName, ...]] = {
    "input": ("request", "input"),
    "output": ("response", "output"),
    "mark": ("mark", "metadata"),
    "tool_input": ("arguments",),
    "tool_output": ("result",),
}
"""The fields that each switch stands for."""


@dataclass(slots=True)
class Profile:
    """What to look for, where, and what to put in its place; the fields are those of `pii.Rule`.

    `detector` takes one name, a list of names, or `all`. Names are looked at by `validate`, all of them at once.
    """

    action: str
    detector: str | list[str] | None = None
    pattern: str | None = None
    target_paths: list[str] = field(default_factory=list[str])
    replacement: str = "[REDACTED]"
    mask_char: str = "*"
    unmasked_prefix: int = 0
    unmasked_suffix: int = 0


@dataclass(slots=True)
class PiiRedactionConfig:
    """The keys of `[plugins.pii_redaction]`: one rule as `builtin`, or several as `profiles`, in their order."""

    builtin: Profile | None = None
    profiles: list[Profile] = field(default_factory=list[Profile])
    hash_key: Secret | None = None
    input: bool = True
    output: bool = True
    mark: bool = True
    tool_input: bool = True
    tool_output: bool = True
    priority: int = 100

    def __post_init__(self) -> None:
        """Hide a key that is given as text, as it is in a file, from whoever prints this."""
        if isinstance(self.hash_key, str):
            self.hash_key = Secret(self.hash_key)


class PiiRedactionPlugin:
    """Redacts personal data in what is recorded, on our spans and on those of others."""

    name = "pii_redaction"
    config_model = PiiRedactionConfig

    def validate(self, config: PiiRedactionConfig) -> list[Diagnostic]:
        """Find rules that could leave readable what they are meant to hide, and rules that hide too much."""
        found: list[Diagnostic] = []
        if config.builtin is not None and config.profiles:
            found.append(Diagnostic("is set together with profiles", "write it as one of the profiles", "builtin"))
        if config.builtin is None and not config.profiles:
            remedy = "write [[plugins.pii_redaction.profiles]] with an action and a detector"
            found.append(Diagnostic("has no rule", remedy, "profiles"))
        if not _fields(config) > set(ALWAYS):
            found.append(Diagnostic("everything is switched off", "remove the plugin's table", "input", "warning"))
        for key, profile in _profiles(config):
            found.extend(_profile_problems(key, profile, config.hash_key))
        return found

    def register(self, context: Context) -> None:
        """Put the sanitizers in force."""
        for observer in sanitizers(context.config):
            context.use(observer)


def sanitizers(config: PiiRedactionConfig) -> list[Observer]:
    """Return the sanitizers that `config` asks for, for use without a file: `use(sanitizer, scope=...)`.

    Raises:
        ConfigurationError: `config` is not a `PiiRedactionConfig`, or a rule is not valid.
    """
    _check(config)
    rules = [rule for _, profile in _profiles(config) for rule in _rules(profile, config.hash_key)]
    redactor = Redactor(rules)
    # What takes whole strings would leave no model its name.
    finder = Redactor(rule for rule in rules if rule.detector or rule.pattern or rule.targets)

    @sanitizer(name="redaction", fields=_fields(config), priority=config.priority)
    def redact(given: Field) -> JSON:
        return _redacted(finder if given.name in ("identifiers", "resource") else redactor, given)

    # Where rules lead to places of a request, what they leave of a message depends on which one it is.
    return [replace(redact, steady=not any(rule.targets for rule in rules))]


def _check(config: Any) -> None:
    """Refuse what a program gives in the place of a configuration; what a file says is read into one."""
    if not isinstance(config, PiiRedactionConfig):
        raise _misfit("the configuration", config, "PiiRedactionConfig")
    if not isinstance(cast("Any", config.profiles), (list, tuple)):
        raise _misfit("profiles", config.profiles, "list")
    for key, profile in _profiles(config):
        if type(profile) is not Profile:
            raise _misfit(key, profile, "Profile")


def _misfit(key: str, given: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{key} of 'pii_redaction' must be a {wanted}, not a {type(given).__name__!r}; write "
        "sanitizers(PiiRedactionConfig(profiles=[Profile('redact', detector='all')]))"
    )


def _fields(config: PiiRedactionConfig) -> set[FieldName]:
    chosen: set[FieldName] = set(ALWAYS)
    for switch, names in SWITCHES.items():
        if getattr(config, switch):
            chosen.update(names)
    return chosen


def _profiles(config: PiiRedactionConfig) -> Iterator[tuple[str, Profile]]:
    """Yield the profiles with their keys."""
    if config.builtin is not None:
        yield "builtin", config.builtin
    for at, profile in enumerate(config.profiles):
        yield f"profiles[{at}]", profile


def _rules(profile: Profile, hash_key: Secret | None) -> Iterator[Rule]:
    for detector in _detectors(profile):
        yield Rule(
            cast("Action", profile.action),
            detector,
            profile.pattern,
            tuple(profile.target_paths),
            profile.replacement,
            profile.mask_char,
            profile.unmasked_prefix,
            profile.unmasked_suffix,
            hash_key.reveal() if hash_key is not None else None,
        )


def _detectors(profile: Profile) -> list[str] | list[None]:
    if profile.detector == "all":
        return list(DETECTORS)
    if isinstance(profile.detector, list):
        return profile.detector
    return [profile.detector] if profile.detector is not None else [None]


_KEYS = {"targets": "target_paths"}
"""Keys of a profile that are called otherwise in a rule."""


def _profile_problems(key: str, profile: Profile, hash_key: Secret | None) -> Iterator[Diagnostic]:
    seen: set[tuple[str, str]] = set()
    for rule in _rules(profile, hash_key):
        for problem in problems(rule):
            name = "hash_key" if problem.field == "key" else f"{key}.{_KEYS.get(problem.field, problem.field)}"
            if (name, problem.message) not in seen:  # one for all detectors of the profile
                seen.add((name, problem.message))
                yield Diagnostic(problem.message, problem.remedy, name)
    if profile.detector == []:
        yield Diagnostic("is an empty list", "name a detector", f"{key}.detector")
    if profile.detector is None and profile.pattern is None and not profile.target_paths and not seen:
        message = "matches every string, including those that structure a message, so no message would be recorded"
        yield Diagnostic(message, "give a detector, a pattern or target_paths", key, "warning")


# --- one field ---------------------------------------------------------------------------------------------


def _redacted(redactor: Redactor, given: Field) -> JSON:
    """Return a field's value redacted, in the form that a field of that name has."""
    if given.name == "attribute":
        return _redacted_attribute(redactor, given.value)
    value = redactor.redact(given.value)
    if given.name in ("name", "error", "mark"):
        return _with_form(given.name, value)
    if value is None:
        return "" if given.name in ("input", "output", "arguments", "result") else {}
    return value


def _with_form(name: FieldName, value: JSON) -> JSON:
    """Return what is left of a field that has a fixed form, with words in place of what was removed."""
    if name == "name":
        return value or "removed"
    defaults: dict[str, JSON] = {"type": "removed", "message": ""} if name == "error" else {"name": "removed"}
    left = {**defaults, **(value or {})}
    return left if name == "error" else {"attributes": {}, **left}


def _redacted_attribute(redactor: Redactor, pair: dict[str, JSON]) -> JSON:
    """Redact an attribute as a member of an object: some data is told by its key."""
    left = redactor.redact({pair["key"]: pair["value"]})
    key, value = next(iter((left or {}).items()), (pair["key"], ""))
    return {"key": key, "value": value}

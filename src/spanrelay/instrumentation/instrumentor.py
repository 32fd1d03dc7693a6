"""The base of every instrumentor: a package, its versions, a patch table, and the tracer its calls use.

`instrument()` only registers import hooks: a package that is missing costs nothing and never fails.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.trace import TracerProvider

from spanrelay.errors import ConfigurationError
from spanrelay.instrumentation.patching import Patch, Patches
from spanrelay.plugins.demand import demand
from spanrelay.telemetry.front import open_latches

if TYPE_CHECKING:
    from spanrelay.tracing import Tracing


class Instrumentor(BaseInstrumentor):
    """Derive, name the package and its modules, and return the table: `patches(tracing)`.

    Import what the table needs inside `patches`: it runs when the package is imported, not at boot.
    """

    package: ClassVar[str]
    """The distribution that is patched."""
    requires: ClassVar[tuple[str, ...]]
    """Its supported versions, as requirement strings."""
    modules: ClassVar[tuple[str, ...]]
    """The modules that are patched, each by its full name.

    The first is the SDK's beyond doubt; others may have a name that a program's own modules have, or be another's.
    """
    name: ClassVar[str]
    """The instrumentation scope of the spans: the instrumentor's import name."""
    version: ClassVar[str]
    """The instrumentor's own version."""

    option: ClassVar[str] = ""
    """What is recorded only where it is asked for: an argument of `instrument()`, and a setting of the same name."""
    optional_modules: ClassVar[tuple[str, ...]] = ()
    """The modules that are patched for it."""

    _patches: Patches | None = None
    _optional: Patches | None = None
    _asked: bool | None = None
    _provider: TracerProvider | None = None
    _tracing: Tracing | None = None

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Return the patch table; its wrappers open their spans with `tracing`."""
        raise NotImplementedError  # pragma: no cover - every instrumentor has its own

    def optional_patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Return the patch table of `option`."""
        raise NotImplementedError  # pragma: no cover - whoever has an option has one

    def plain_patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Return the patch table in place of that of `option`, where nobody asks for it."""
        return ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """The supported versions."""
        return self.requires

    def hold(self) -> None:
        """Instrument because `activate()` or a file's policy asks for it, unless somebody has.

        Raises:
            DependencyConflictError: the package is missing, or its version is not supported.
        """
        if not self.is_instrumented_by_opentelemetry:
            self.instrument(raise_exception_on_conflict=True)

    def instrument(self, **kwargs: Any) -> None:
        """Instrument the package; `tracer_provider` opens the spans, by default the one that `activate()` adopted.

        Where `opentelemetry-instrument` or `activate()` has done so already, the application only says what it wants
        besides.
        """
        if self.is_instrumented_by_opentelemetry:
            if not kwargs.keys().isdisjoint(("tracer_provider", self.option)):
                self._instrument(**kwargs)
        else:
            super().instrument(**kwargs)

    def uninstrument(self, **kwargs: Any) -> None:
        """Put the package back.

        Raises:
            ConfigurationError: a file's policy is in force, which would not hold for the package any more.
        """
        if demand.held and demand.stops:
            raise ConfigurationError(
                f"{self.package!r} stays instrumented while a configuration file has policy in force, which would not "
                'hold for it; take the policy out of the file, or write [policy] on_failure = "warn"'
            )
        super().uninstrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        if self.option and (asked := self._asked_for(kwargs)) is not None:
            self._asked = asked
        self._undo_optional()
        provider: TracerProvider | None = kwargs.get("tracer_provider", self._provider)
        self._provider = provider
        # A table lives as long as the process: hooks and cached bound methods keep it.
        if self._patches is None:
            self._patches = Patches(self.package, self.modules, self._table)
        elif self._tracing is not None:
            self._tracing.use(provider)
        self._patches.apply()
        if self.option:
            # A table of its own: a wrapper that is not in force would still cost every call.
            self._optional = Patches(self.package, self.optional_modules, self._optional_table)
            self._optional.apply()

    def _asked_for(self, options: dict[str, Any]) -> bool | None:
        """Take `option` out of what `instrument` was given: true, false, or None where the setting decides.

        Raises:
            TypeError: it is neither true nor false.
        """
        given = options.pop(self.option, None)
        if given is not None:
            from spanrelay.registry import check_options

            name = f"{type(self).__name__}().instrument"
            check_options(name, {self.option: given}, {self.option: (bool, "true or false")})
        return given

    def _optional_table(self) -> tuple[Patch, ...]:
        """Made when the package is imported: at boot nothing is settled yet."""
        from spanrelay.tracing import Tracing, recording

        open_latches()
        wanted = getattr(recording, self.option) if self._asked is None else self._asked
        tracing = Tracing(self.name, self.version, self._provider)
        return self.optional_patches(tracing) if wanted else self.plain_patches(tracing)

    def _table(self) -> tuple[Patch, ...]:
        from spanrelay.tracing import Tracing

        open_latches()
        if self._tracing is None:
            self._tracing = Tracing(self.name, self.version, self._provider)
        else:
            self._forget_own_modules()
        return self.patches(self._tracing)

    def _forget_own_modules(self) -> None:
        """Let the next table import anew what it needs: the package is another, and these hold classes of the old."""
        for module in [each for each in sys.modules if each.startswith(f"{self.name}.")]:
            del sys.modules[module]

    def _undo_optional(self) -> None:
        if self._optional is not None:
            self._optional.undo()
            self._optional = None

    def _uninstrument(self, **kwargs: Any) -> None:
        self._provider = self._asked = None
        self._undo_optional()
        if self._patches is not None:
            self._patches.undo()

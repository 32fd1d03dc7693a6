"""The base of every instrumentor: a package, its versions, a patch table, and the tracer its calls use.

`instrument()` only registers import hooks: a package that is missing costs nothing and never fails.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.trace import TracerProvider

from spanrelay.instrumentation.patching import Patch, Patches
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
    """The modules that are patched, each by its full name."""
    name: ClassVar[str]
    """The instrumentation scope of the spans: the instrumentor's import name."""
    version: ClassVar[str]
    """The instrumentor's own version."""

    _patches: Patches | None = None
    _provider: TracerProvider | None = None
    _tracing: Tracing | None = None

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Return the patch table; its wrappers open their spans with `tracing`."""
        raise NotImplementedError  # pragma: no cover - every instrumentor has its own

    def instrumentation_dependencies(self) -> Collection[str]:
        """The supported versions."""
        return self.requires

    def _instrument(self, **kwargs: Any) -> None:
        provider: TracerProvider | None = kwargs.get("tracer_provider")
        self._provider = provider
        # A table lives as long as the process: hooks and cached bound methods keep the first one.
        if self._patches is None:
            self._patches = Patches(self.package, self.modules, self._table)
        elif self._tracing is not None:
            self._tracing.use(provider)
        self._patches.apply()

    def _table(self) -> tuple[Patch, ...]:
        from spanrelay.tracing import Tracing

        open_latches()
        self._tracing = Tracing(self.name, self.version, self._provider)
        return self.patches(self._tracing)

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._patches is not None:
            self._patches.undo()

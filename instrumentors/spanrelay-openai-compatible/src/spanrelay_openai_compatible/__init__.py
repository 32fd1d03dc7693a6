"""SpanRelay instrumentors for SDKs that Stainless generates and whose providers speak OpenAI's APIs.

A table, one row for each SDK; routes stand in `routes`, all else has its home in `spanrelay`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = [
    "CerebrasInstrumentor",
    "FireworksInstrumentor",
    "GroqInstrumentor",
    "PerplexityInstrumentor",
    "SambaNovaInstrumentor",
    "TogetherInstrumentor",
    "WriterInstrumentor",
]
__version__ = "0.1.0"


class Row(NamedTuple):
    """An SDK.

    Attributes:
        package: Its distribution.
        module: What it is imported by.
        provider: The `gen_ai.provider.name` of who answers, unless the base URL names another.
        supported: The versions, as a requirement leaves them.
    """

    package: str
    module: str
    provider: str
    supported: str


class CompatibleInstrumentor(Instrumentor):
    """Instruments the SDK of a row: `instrument(tracer_provider=None)`, and `uninstrument()`."""

    version = __version__
    row: ClassVar[Row]

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The base client's two colours of `request`, where it makes a response its own, and how streams are read."""
        from spanrelay.instrumentation.stainless import StainlessAPI
        from spanrelay_openai_compatible.routes import provider_of, routes_of

        row = self.row
        api = StainlessAPI(routes_of(row.module), partial(provider_of, row.provider), tracing)
        return api.patches(f"{row.module}._base_client") + api.stream_patches(f"{row.module}._streaming")


def _made(name: str, row: Row) -> type[CompatibleInstrumentor]:
    """Return the instrumentor of a row, called `name`; its spans are of a scope of its own."""
    return type(
        name,
        (CompatibleInstrumentor,),
        {
            "__module__": __name__,
            "__doc__": f"Instruments `{row.package}`.",
            "row": row,
            "package": row.package,
            "requires": (f"{row.package} {row.supported}",),
            "modules": (f"{row.module}._base_client", f"{row.module}._streaming"),
            "name": f"spanrelay_{row.provider}",
        },
    )


CerebrasInstrumentor = _made(
    "CerebrasInstrumentor", Row("cerebras_cloud_sdk", "cerebras.cloud.sdk", "cerebras", ">= 1.29")
)
FireworksInstrumentor = _made("FireworksInstrumentor", Row("fireworks-ai", "fireworks", "fireworks", ">= 1.2"))
GroqInstrumentor = _made("GroqInstrumentor", Row("groq", "groq", "groq", ">= 1.0"))
PerplexityInstrumentor = _made("PerplexityInstrumentor", Row("perplexityai", "perplexity", "perplexity", ">= 0.27"))
SambaNovaInstrumentor = _made("SambaNovaInstrumentor", Row("sambanova", "sambanova", "sambanova", ">= 1.1"))
TogetherInstrumentor = _made("TogetherInstrumentor", Row("together", "together", "together", ">= 2.0"))
WriterInstrumentor = _made("WriterInstrumentor", Row("writer-sdk", "writerai", "writer", ">= 2.0"))

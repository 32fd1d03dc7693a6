"""SpanRelay instrumentor for Hugging Face's inference clients: every task that asks a model, sync and async.

A patch table and a route table; payloads, streams, spans and policy have their homes in `spanrelay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["HuggingFaceInstrumentor"]
__version__ = "0.1.0"


class HuggingFaceInstrumentor(Instrumentor):
    """Instruments `huggingface_hub`: `HuggingFaceInstrumentor().instrument(tracer_provider=None)`, `uninstrument()`."""

    package = "huggingface_hub"
    requires = ("huggingface_hub >= 1.0",)
    modules = ("huggingface_hub.inference._client", "huggingface_hub.inference._generated._async_client")
    name = "spanrelay_huggingface"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """Both colours of `_inner_post`, which every task asks by, and of what reads the streams of two of them."""
        from spanrelay_huggingface.requests import Requests

        return Requests(tracing).patches(*self.modules)

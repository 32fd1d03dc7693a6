"""SpanRelay instrumentor for Amazon Bedrock: what boto3 and aiobotocore ask of models, and of no other service.

A patch table; which operations ask a model stands in `operations`, and what is done about them in `boundary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["BedrockInstrumentor"]
__version__ = "0.1.0"


class BedrockInstrumentor(Instrumentor):
    """Instruments `botocore`: `BedrockInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "boto3"
    requires = ("botocore >= 1.35",)
    modules = ("botocore.client", "aiobotocore.client")
    name = "spanrelay_bedrock"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two colours of the method that every operation of every service passes."""
        from spanrelay.instrumentation.patching import Patch
        from spanrelay_bedrock.boundary import BedrockAPI

        api = BedrockAPI(tracing)
        return (
            Patch("botocore.client", "BaseClient._make_api_call", api.call),
            Patch("aiobotocore.client", "AioBaseClient._make_api_call", api.acall),
        )

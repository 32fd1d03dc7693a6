"""Who answers behind a base URL of OpenAI's SDK, and what its Azure clients put there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

from spanrelay.providers import provider_of_openai_host


def provider_of(client: Any, host: str) -> str:
    """Return the `gen_ai.provider.name` of a client: by its host, else by its class, else `openai`."""
    found = provider_of_openai_host(host)
    return "azure.ai.openai" if found == "openai" and type(client).__name__.endswith("AzureOpenAI") else found


def deployment_of(client: Any, url: str, body: Any) -> str | None:
    """Return the model that an Azure client makes a part of the URL, where its base URL names none; else None."""
    azure = sys.modules.get("openai.lib.azure")
    if azure is None or not isinstance(client, azure.BaseAzureClient) or not isinstance(body, Mapping):
        return None
    model = cast("Mapping[str, Any]", body).get("model")
    if model is None or url not in azure._deployments_endpoints or "/deployments" in str(client.base_url.path):
        return None
    return str(model)

"""The plugin `response_cache`: answers that a provider has given are given again to the very same request."""

from spanrelay.plugins.response_cache.plugin import ResponseCacheConfig, ResponseCachePlugin

__all__ = ["ResponseCacheConfig", "ResponseCachePlugin"]

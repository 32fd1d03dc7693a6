"""The plugin `fallback`: models that are asked in the place of one that cannot answer now."""

from spanrelay.plugins.fallback.plugin import FallbackConfig, FallbackPlugin

__all__ = ["FallbackConfig", "FallbackPlugin"]

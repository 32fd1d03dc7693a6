"""The plugin `tool_cache`: what a named tool gave is given again for the same arguments."""

from spanrelay.plugins.tool_cache.plugin import ToolCacheConfig, ToolCachePlugin

__all__ = ["ToolCacheConfig", "ToolCachePlugin"]

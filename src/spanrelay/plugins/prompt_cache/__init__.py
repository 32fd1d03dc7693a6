"""The plugin `prompt_cache`: what providers cache of prompts, and the marks that make them do so where it pays."""

from spanrelay.plugins.prompt_cache.plugin import PromptCacheConfig, PromptCachePlugin

__all__ = ["PromptCacheConfig", "PromptCachePlugin"]

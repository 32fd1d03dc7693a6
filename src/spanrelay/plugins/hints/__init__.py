"""The plugin `hints`: tells servers that schedule requests what is known of an agent's."""

from spanrelay.plugins.hints.plugin import HintsConfig, HintsPlugin

__all__ = ["HintsConfig", "HintsPlugin"]

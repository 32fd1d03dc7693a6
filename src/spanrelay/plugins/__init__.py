"""Plugins: policy and observation that a file configures, and what a plugin is made of.

Imports nothing that is not imported at boot anyway.
"""

from spanrelay.plugins.plugin import Context, Diagnostic, Plugin, Secret

__all__ = ["Context", "Diagnostic", "Plugin", "Secret"]

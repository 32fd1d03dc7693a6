"""The plugin `agent_hooks`: interceptors of AGENT-HOOKS-0.1 decide about calls of agents, models and tools."""

from spanrelay.plugins.agent_hooks.plugin import AgentHooksConfig, AgentHooksPlugin, InterceptorConfig

__all__ = ["AgentHooksConfig", "AgentHooksPlugin", "InterceptorConfig"]

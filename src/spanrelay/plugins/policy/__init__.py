"""The plugin `policy`: which tools and models may be used, and how much of them.

It judges what is sent, also after an intercept or a fallback has changed it, and counts every sending. What it
cannot judge it refuses.
"""

from spanrelay.plugins.policy.approval import ApprovalRequest, approve_with
from spanrelay.plugins.policy.plugin import PolicyPlugin
from spanrelay.plugins.policy.settings import PolicyConfig, Price

__all__ = ["ApprovalRequest", "PolicyConfig", "PolicyPlugin", "Price", "approve_with"]

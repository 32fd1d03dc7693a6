"""A sampler that lets processors see what is not sampled, so that trajectories can be complete.

What is sampled stays exactly what the user's own sampler says.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, StaticSampler


class RecordUnsampled(Sampler):
    """Asks `inner`, and records what it drops without sampling it."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Return the inner result, `RECORD_ONLY` in place of `DROP`."""
        result = self._inner.should_sample(*args, **kwargs)
        if result.decision is not Decision.DROP:
            return result
        attributes = kwargs.get("attributes") or (args[4] if len(args) > 4 else None) or result.attributes
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """Say what this is and what it asks."""
        return f"RecordUnsampled({self._inner.get_description()})"


def leaves_none_out(sampler: Any) -> bool:
    """Whether processors see all spans that `sampler` decides on, but for those beneath one that is not sampled."""
    if isinstance(sampler, ParentBased):
        sampler = sampler._root
    if isinstance(sampler, StaticSampler):
        return sampler._decision is not Decision.DROP
    return isinstance(sampler, RecordUnsampled)

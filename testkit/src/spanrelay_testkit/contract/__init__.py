"""The contract that every instrumentor's tests inherit: nothing of ours changes a call, and nothing is lost.

A subclass named `Test…` supplies the hooks; the tests know no SDK. The provider is always the real model server.
"""

from __future__ import annotations

from spanrelay_testkit.contract.concurrency import ConcurrencyContract
from spanrelay_testkit.contract.force import ForceContract
from spanrelay_testkit.contract.outcomes import OutcomeContract
from spanrelay_testkit.contract.policies import PolicyContract
from spanrelay_testkit.contract.spans import SpanContract
from spanrelay_testkit.contract.streams import StreamContract


class InstrumentorContract(
    ForceContract, OutcomeContract, SpanContract, StreamContract, PolicyContract, ConcurrencyContract
):
    """Derive as `Test…`, supply the hooks of `Subject`, and every test runs for sync and async."""

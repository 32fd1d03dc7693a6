"""The contract that every instrumentor's tests inherit: nothing of ours changes a call, and nothing is lost.

A subclass named `Test…` supplies the hooks; the tests know no SDK. What is promised of any call, whoever answers it, is
`CallContract`; what is promised of a model's besides is the rest. A model's provider is always the real model server.
"""

from __future__ import annotations

from spanrelay_testkit.contract.concurrency import CallConcurrencyContract, ConcurrencyContract
from spanrelay_testkit.contract.force import ForceContract
from spanrelay_testkit.contract.outcomes import CallOutcomeContract, OutcomeContract
from spanrelay_testkit.contract.policies import CallPolicyContract, PolicyContract
from spanrelay_testkit.contract.spans import CallSpanContract, SpanContract
from spanrelay_testkit.contract.streams import StreamContract


class CallContract(ForceContract, CallOutcomeContract, CallSpanContract, CallPolicyContract, CallConcurrencyContract):
    """Derive as `Test…` and supply the hooks of `CallSubject`, where what is called is no model but, say, a tool."""


class InstrumentorContract(
    OutcomeContract, SpanContract, StreamContract, PolicyContract, ConcurrencyContract, CallContract
):
    """Derive as `Test…`, supply the hooks of `Subject`, and every test runs for sync and async."""

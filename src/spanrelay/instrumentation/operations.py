"""Methods of an SDK that ask a model by a function beneath them, which only sends a request and gets a response.

What becomes of the response, an answer or an error, is decided in the method. The call is held until then, so that its
span says which exception the application got; a stream's ends with the stream.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, create_key, detach, set_value

from spanrelay.pipeline.model import ModelCall
from spanrelay.records import ErrorInfo

OPERATION_KEY = create_key("spanrelay.operation")


class Refused(Exception):
    """The provider answers with an error, of which the method that asked will make the SDK's own.

    Policy may catch it where it sent the call, as it may catch what another SDK raises there, and send it again.

    Attributes:
        response: What the provider answered.
    """

    def __init__(self, response: Any) -> None:
        super().__init__(f"the provider answered with status {response.status_code}")
        self.response = response


class Operation:
    """One method that asks, at work."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: OperationCall | None = None

    def end(self, error: BaseException | None = None) -> None:
        """End the call that is held, as the method ends."""
        call, self.call = self.call, None
        if call is not None and error is None:
            call.end()
        elif call is not None and error is not None:
            call.fail(error)


class OperationCall(ModelCall):
    """A call whose span ends with the method that made it, unless its answer is a stream."""

    __slots__ = ("_operation",)

    def open(self, opened: Any = None) -> Any:
        """Open the span, and note which method asks."""
        context = super().open(opened)
        self._operation: Operation | None = context.get(OPERATION_KEY)  # type: ignore[assignment]
        return context

    def finish(self, end: int | None = None) -> None:
        """Wait for the method, where it has still to make something of a response."""
        operation, self._operation = self._operation, None
        if operation is None or self.record.error is not None or self.http_status is None or self.arrived is not None:
            super().finish(end)
        else:
            operation.call = self

    def fail(self, error: BaseException) -> None:
        """End the span of a call that raised `error`, or wait for what the method makes of a refusal."""
        if not isinstance(error, Refused):
            super().fail(error)
        elif self._operation is not None:
            self.finish()
        else:
            self.record.error = ErrorInfo(str(error.response.status_code), str(error))
            super().finish()

    def end(self) -> None:
        """End the span."""
        super().finish()


def operate(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Wrap a method: the call that is made in it ends with it."""
    operation = Operation()
    token = attach(set_value(OPERATION_KEY, operation))
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        operation.end(error)
        raise
    finally:
        detach(token)
    operation.end()
    return result


async def aoperate(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Wrap a method that is awaited."""
    operation = Operation()
    token = attach(set_value(OPERATION_KEY, operation))
    try:
        result = await wrapped(*args, **kwargs)
    except BaseException as error:
        operation.end(error)
        raise
    finally:
        detach(token)
    operation.end()
    return result

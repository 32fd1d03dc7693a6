"""What every test shares: an error that our guard swallows fails the test that caused it."""

from collections.abc import Iterator

import pytest

from spanrelay import _guard


@pytest.fixture(autouse=True)
def swallowing_fails_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """`@pytest.mark.swallows` turns this off for tests about swallowing itself."""
    _guard.strict = request.node.get_closest_marker("swallows") is None
    yield
    _guard.strict = False
    _guard.losses.take()

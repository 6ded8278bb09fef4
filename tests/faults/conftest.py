"""What the tests of faults share."""

from collections.abc import Callable, Iterator

import pytest

from airweave_server.db.session import Database
from running import Running


@pytest.fixture
def database(apart: Running) -> Iterator[Database]:
    """The database of a test's own."""
    opened = Database(apart.database_url)
    yield opened
    opened.close()


@pytest.fixture
def by_times(request: pytest.FixtureRequest) -> Callable[[float, float], float]:
    """The first of two numbers of seconds with the tests' short times, the second with the default ones."""
    return lambda short_s, default_s: default_s if request.config.getoption("--default-times") else short_s

"""What the tests of faults share."""

from collections.abc import Iterator

import pytest

from airweave_server.db.session import Database
from running import Running


@pytest.fixture
def database(apart: Running) -> Iterator[Database]:
    """The database of a test's own."""
    opened = Database(apart.database_url)
    yield opened
    opened.close()

"""What the tests of deployments share."""

from collections.abc import Iterator

import pytest
from gateway_stand_in import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.shutdown()
    server.server_close()

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.servers import free_port
from worker.stack import ports
from worker.stack.errors import StackError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_wished_port_is_used_when_it_is_free() -> None:
    port = free_port()
    assert ports.choose(port, given_by=None) == port


def test_the_next_free_port_is_used_when_nobody_asked_for_this_one(taken: int) -> None:
    chosen = ports.choose(taken, given_by=None)
    assert chosen > taken
    assert ports.obstacle(chosen) is None


def test_a_taken_port_that_was_asked_for_is_an_error_naming_port_and_place(taken: int) -> None:
    with pytest.raises(StackError, match=rf"port {taken} is taken .* environment variable REGROW_PORT"):
        ports.choose(taken, given_by="environment variable REGROW_PORT")


def test_a_server_on_all_addresses_takes_the_port_on_loopback_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert ports.obstacle(server.getsockname()[1]) == "is taken by another program"


def test_a_port_whose_connections_linger_is_free_for_the_page_to_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = server.accept()
        connection.close()  # we close first: TIME_WAIT stays on our side
        client.close()
    assert ports.obstacle(port) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen anywhere")
def test_a_privileged_port_is_not_called_taken() -> None:
    assert ports.obstacle(81) == "needs privileges that this user does not have"

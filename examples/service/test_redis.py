"""A service: `image_container` starts Redis in a container, and a test on this machine talks to it by a mapped port.

The test has no marker, so it runs here. testcontainers' wait strategies take the container as it is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from pytest_imagebuild import Image

redis = Image.debian_slim("3.13").apt_install("redis-server")


@pytest.fixture(scope="module")
def connection(image_container: Callable[..., Any]) -> Iterator[socket.socket]:
    service = image_container(redis, command=["redis-server", "--protected-mode", "no"], ports=[6379])
    LogMessageWaitStrategy("Ready to accept connections").wait_until_ready(service.native)
    with socket.create_connection(service.port(6379), timeout=10) as connected:
        yield connected


def ask(connection: socket.socket, command: str) -> str:
    connection.sendall(f"{command}\r\n".encode())
    return connection.recv(1000).decode().rstrip("\r\n")


def test_redis_answers(connection: socket.socket) -> None:
    assert ask(connection, "PING") == "+PONG"


def test_redis_counts(connection: socket.socket) -> None:
    assert [ask(connection, "INCR visits") for _ in range(3)] == [":1", ":2", ":3"]

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import fake_reader
import pytest
from serve_client import Client

from edge_runtime.serve.limits import Limits
from edge_runtime.serve.server import PageServer
from edge_runtime.serve_browser import serving


@pytest.fixture
def serve() -> Iterator[Callable[..., Client]]:
    """Start servers that end with the test."""
    with ExitStack() as stack:

        def start(reader: Any = None, limits: Limits = Limits(), **options: Any) -> Client:  # noqa: B008
            server = PageServer(reader or fake_reader.Reader(), limits=limits, **options)
            return Client(stack.enter_context(serving(server, 0.05)))

        yield start


@pytest.fixture
def client(serve: Callable[..., Client]) -> Client:
    return serve()

"""A small HTTP server that a test has at an address of this machine."""

from __future__ import annotations

import contextlib
import ssl
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Answer", "Request", "Served"]

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


class Request(BaseHTTPRequestHandler):
    """One request, which what is served answers. `HEAD` gets the headers of `GET`."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        status, body, headers = self.server.served.answer(self)
        self.reply(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            # A client that has waited long enough is gone.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for it

    def reply(self, status: int, headers: dict[str, str]) -> None:
        """Send all that comes before a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, request: type[Request], served: Served) -> None:
        super().__init__((host, 0), request)
        self.served = served


class Served(ABC):
    """Something that answers at a free port of `host`, from the beginning of a `with` to its end."""

    request: ClassVar[type[Request]] = Request

    def __init__(self, host: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self._server = _Server(host, self.request, self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Give what a request for something gets."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

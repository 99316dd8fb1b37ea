"""A Docker API that listens in on, and can refuse, what goes to a real one."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

Answer = tuple[int, str]
NO_HOST = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host'


@dataclass
class Relay:
    """Passes connections on to the Unix socket `behind`. `calls` are the requests, `answers` are given in its place.

    One request per connection: `Connection: close` goes with each, so that none passes unseen.
    """

    behind: str
    address: str
    tls: ssl.SSLContext | None = None
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    open: list[socket.socket] = field(default_factory=list)

    def changes(self) -> list[str]:
        """Return the calls that change something."""
        return [call for call in self.calls if not call.startswith(("GET", "HEAD"))]

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                if self.tls is not None:
                    try:
                        client = self.tls.wrap_socket(client, server_side=True)
                    except OSError:
                        continue
                self.open.append(client)
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection, as a daemon that dies."""
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            request = b""
            while b"\r\n\r\n" not in request:
                part = client.recv(65536)
                if not part:
                    return
                request += part
            head, _, rest = request.partition(b"\r\n\r\n")
            call = unquote(head.split(b" HTTP/", 1)[0].decode())
            self.calls.append(call)
            for pattern, (status, message) in self.answers:
                if re.search(pattern, call):
                    client.sendall(_response(status, message))
                    return
            if b"upgrade:" not in head.lower():
                head = re.sub(rb"\r\nConnection:[^\r]*", b"", head, flags=re.IGNORECASE) + b"\r\nConnection: close"
            self._pass_on(client, head + b"\r\n\r\n" + rest)

    def _pass_on(self, client: socket.socket, request: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self.behind)
            self.open.append(daemon)
            daemon.sendall(request)
            back = threading.Thread(target=_pump, args=(daemon, client), daemon=True)
            back.start()
            _pump(client, daemon)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _response(status: int, message: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


@contextlib.contextmanager
def relay(behind: str, path: Path | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    """Listen for calls of the daemon at the Unix socket `behind`: at the Unix socket `path`, else at a TCP port."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listener:
        listener.bind(str(path) if path else ("127.0.0.1", 0))
        listener.listen(64)
        address = f"unix://{path}" if path else f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        relaying = Relay(behind=behind, address=address, tls=tls)
        threading.Thread(target=relaying.serve, args=(listener,), daemon=True).start()
        yield relaying
        relaying.cut()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)

"""A socket that hands every connection on to another one, until it is shut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

__all__ = ["Relay"]


class Relay:
    """Hands on what comes to `gate` to what `connect` opens. `heard` gets what the clients say, piece by piece."""

    def __init__(
        self, gate: socket.socket, connect: Callable[[], socket.socket], heard: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._gate = gate
        self._connect = connect
        self._heard = heard
        self._guard = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.visits = 0

    def start(self) -> None:
        """Let connections through, in threads of its own."""
        self._spawn(self._accept)

    def shut(self) -> None:
        """End all connections and refuse new ones. Calling it again does nothing."""
        with self._guard:
            sockets = [self._gate, *self._sockets]
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._gate.close()
        for thread in tuple(self._threads):
            thread.join(10)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._gate.accept()
                self.visits += 1
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), self._connect() as server:
            with self._guard:
                self._sockets |= {client, server}
            answers = self._spawn(self._pump, server, client, lambda _: None)
            self._pump(client, server, self._heard)
            answers.join()
        with self._guard:
            self._sockets.discard(client)
            self._sockets.discard(server)

    def _pump(self, source: socket.socket, target: socket.socket, heard: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                heard(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

"""Session containers: their main process is a worker that talks over its standard streams."""

from __future__ import annotations

from collections.abc import Callable

from pytest_imagebuild.engines.embedded.process import ContainerProcess
from pytest_imagebuild.engines.embedded.rooms import Room
from pytest_imagebuild.engines.embedded.soundness import Check
from pytest_imagebuild.engines.pipes import PipeChannel
from pytest_imagebuild.engines.protocol import ExitStatus

__all__ = ["SessionContainer"]

_NOT_FOUND = b"bwrap: execvp "


class SessionContainer:
    """A running session container. `ended` is called once it is stopped."""

    def __init__(
        self,
        room: Room,
        process: ContainerProcess,
        check: Check,
        ended: Callable[[SessionContainer], None],
    ) -> None:
        self._room = room
        self._process = process
        self._ended = ended
        self._channel = PipeChannel(*process.streams, check=check.wait)
        self._stopped = False
        self._status: ExitStatus | None = None

    @property
    def id(self) -> str:
        """The folder that it writes to."""
        return str(self._room.folder)

    @property
    def channel(self) -> PipeChannel:
        """The stream to its main process."""
        return self._channel

    def wait(self, timeout: float) -> ExitStatus:
        """Wait up to `timeout` seconds for the main process to end."""
        if self._status is None:
            code = self._process.wait(timeout)
            if code is None:
                return ExitStatus(code=None, detail=f"it still ran after {timeout:g} s")
            self._status = self._explain(code)
        return self._status

    def stop(self) -> None:
        """Kill and remove it. Calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._process.kill()
        self.wait(0)
        self._channel.close()
        self._process.close()
        self._room.remove()
        self._ended(self)

    def _explain(self, code: int) -> ExitStatus:
        if code == 1 and self._channel.error_output().startswith(_NOT_FOUND):
            return ExitStatus(code=127)
        return ExitStatus.of(code, out_of_memory=self._process.out_of_memory and not self._stopped)

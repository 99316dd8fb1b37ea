"""How a worker can fail its controller."""

from __future__ import annotations

import signal as signals

from pytest_imagebuild.errors import ImageBuildError

__all__ = ["WorkerDied", "WorkerFailedToStart", "WorkerTimeout", "printable"]


def printable(text: str) -> str:
    """Return `text` with its control characters written out: for sentences of ours that quote a container."""
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


class WorkerDied(ImageBuildError):
    """The worker ended, or made no sense, before its item was through.

    `code` is its exit code and `signal` what killed it, None where not known; `output` is the end of what
    it printed past pytest's capture; `detail` says what else is known.
    """

    def __init__(
        self,
        *,
        code: int | None = None,
        signal: int | None = None,
        out_of_memory: bool = False,
        output: str = "",
        detail: str = "",
    ) -> None:
        self.code = code
        self.signal = signal
        self.out_of_memory = out_of_memory
        self.output = output
        self.detail = detail
        super().__init__("\n".join([self._sentence(), *filter(None, [detail])]))

    def _sentence(self) -> str:
        if self.out_of_memory and self.code is None:
            return "The worker in the container was killed because the container ran out of memory."
        if self.signal is not None:
            return f"The worker in the container was killed by {_signal_name(self.signal)}."
        if self.code is not None:
            return f"The worker in the container ended with exit code {self.code}."
        return "The worker in the container is gone."


class WorkerFailedToStart(ImageBuildError):
    """pytest could not start in the container. `text` is what it says about it, `output` what was printed."""

    def __init__(self, text: str, *, output: str = "") -> None:
        self.text = text
        self.output = output
        super().__init__(f"pytest could not start in the container:\n{text}")


class WorkerTimeout(ImageBuildError):
    """Something took longer than it may. `stacks` is where the threads of the worker were."""

    def __init__(self, seconds: float, stacks: str, *, what: str = "The test did not end") -> None:
        self.seconds = seconds
        self.stacks = stacks
        super().__init__(f"{what} within {seconds:g} s, so its container was stopped.")


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"

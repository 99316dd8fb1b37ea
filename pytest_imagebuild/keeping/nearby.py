"""An engine that another process has open: the one that keeps containers, which answers what most runs ask of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.generations import NO_CLAIMS, Claims
from pytest_imagebuild.engines.layers import BuiltLayer, LayerIndex
from pytest_imagebuild.engines.protocol import Capabilities, Engine
from pytest_imagebuild.keeping.door import Line, call, near
from pytest_imagebuild.keeping.rows import capabilities_of, layer_of

if TYPE_CHECKING:
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory

__all__ = ["nearby"]

_FIRST_ANSWER_SECONDS = 2.0
_ANSWER_SECONDS = 60.0


def nearby(asked: str, *, run: str, cache_dir: Path, meanwhile: Callable[[], object]) -> Engine | None:
    """Return the engine that a user asks for by this name, None where no process answers for it.

    `run` and `cache_dir` are those of `choose_engine`; `meanwhile` is done while the process contacts the engine.
    """
    line = None
    with suppress(OSError, ValueError):
        line = call(Path(near(cache_dir.absolute(), asked).read_text(encoding="utf-8")))
    if line is None:
        return None
    with suppress(OSError, TypeError):
        line.send({"engine": asked})
        meanwhile()
        match line.receive(_FIRST_ANSWER_SECONDS):
            case {"capabilities": dict(row)}, _:
                choose = partial(choose_engine, asked, run=run, cache_dir=cache_dir)
                return cast("Engine", _Nearby(line, capabilities_of(row), choose))
    line.close()
    return None


class _Nearby:
    """What the other process does not answer, or no longer, an engine does that is opened here then. Thread-safe."""

    def __init__(self, line: Line, capabilities: Capabilities, choose: Callable[[], Engine]) -> None:
        self.name = capabilities.engine
        self._capabilities = capabilities
        self._line: Line | None = line
        self._asking = threading.Lock()
        self._choose = choose
        self._chosen: Engine | None = None
        self._choosing = threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self._here(), name)

    def capabilities(self) -> Capabilities:
        """Return what the engine can do, as it was when it was asked."""
        return self._capabilities

    def gpus(self) -> GpuInventory:
        """Return its GPUs. Who is handed this method may never call it, and then no engine is opened."""
        return self._here().gpus()

    def layers(self, namespace: str = "") -> Mapping[str, BuiltLayer]:
        """Return every finished layer of a namespace. The other process begins to look them up."""
        if self._ask({"look_up": namespace}) is None:
            return self._here().layers(namespace)

        def get(key: str) -> BuiltLayer | None:
            return self._layer({"get": key, "namespace": namespace}, key, namespace)

        return LayerIndex(get, lambda: self._here().layers(namespace))

    def find(self, key: str, namespace: str = "") -> BuiltLayer | None:
        """Return the finished layer of a key."""
        return self._layer({"find": key, "namespace": namespace}, key, namespace)

    def sweep(self, claimed: Claims = NO_CLAIMS) -> int:
        """Leave it to the other process, which sweeps when this one hangs up: no run has to wait for that."""
        return 0 if self._line is not None else self._here().sweep(claimed)

    def close(self) -> None:
        """Hang up, and close the engine that was opened here. Calling it again does nothing."""
        with self._choosing:
            chosen, self._chosen = self._chosen, None
        with self._asking:
            self._hang_up()
        if chosen is not None:
            chosen.close()

    def _here(self) -> Engine:
        with self._choosing:
            if self._chosen is None:
                self._chosen = self._choose()
            return self._chosen

    def _layer(self, question: Mapping[str, object], key: str, namespace: str) -> BuiltLayer | None:
        answer = self._ask(question)
        if answer is None:
            return self._here().find(key, namespace)
        return layer_of(answer["layer"]) if answer["layer"] is not None else None

    def _ask(self, question: Mapping[str, object]) -> Mapping[str, Any] | None:
        """Return what the other process says; None where it is gone, or not the one to ask any more."""
        if self._chosen is not None:
            return None
        with self._asking:
            if self._line is None:
                return None
            with suppress(OSError):
                self._line.send(question)
                if (received := self._line.receive(_ANSWER_SECONDS)) is not None:
                    return received[0]
            self._hang_up()
            return None

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

"""What the process that keeps containers answers of an engine: it has the libraries of one loaded, which takes 0.2 s.

`{"engine": name}` -> `{"capabilities": ...}` of the engine that a user would get by this name now; then, on the same
connection, `{"find": key, "namespace": ...}` -> `{"layer": ...}`, `{"look_up": namespace}` -> `{"begun": true}`, and
`{"get": key, "namespace": ...}` -> `{"layer": ...}` as it was at some time since. A layer that is not there is null.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.keeping.door import Line
from pytest_imagebuild.keeping.rows import row_of_capabilities, row_of_layer

__all__ = ["answer_for"]

_FEW = 32


def answer_for(asked: str, cache_dir: Path, line: Line) -> None:
    """Answer until the other side hangs up, then sweep: its run has left that to this process.

    Raises EngineError, and OSError where it hangs up in the middle.
    """
    # Not the engine of what waits: this one was contacted now, and has looked at nothing yet, as in any other run.
    with closing(choose_engine(asked, run=uuid.uuid4().hex, cache_dir=cache_dir)) as engine:
        capabilities = engine.capabilities()
        line.send({"capabilities": row_of_capabilities(capabilities)})
        looked_up: dict[str, _LookUp] = {}
        while (received := line.receive(None)) is not None:
            match received[0]:
                case {"find": str(key), "namespace": str(namespace)}:
                    line.send(_layer(engine.find(key, namespace)))
                case {"look_up": str(namespace)}:
                    looked_up[namespace] = _LookUp(engine, namespace)
                    line.send({"begun": True})
                case {"get": str(key), "namespace": str(namespace)} if namespace in looked_up:
                    line.send(_layer(looked_up[namespace].get(key)))
                case _:
                    break
        engine.sweep(Uses(cache_dir, capabilities.identity).claimed())


class _LookUp:
    """Finds layers one by one at first: a list takes Docker as long as a hundred of them. Then it takes the list."""

    def __init__(self, engine: Engine, namespace: str) -> None:
        self._engine = engine
        self._namespace = namespace
        self._asked = 0
        self._all: Mapping[str, BuiltLayer] | None = None

    def get(self, key: str) -> BuiltLayer | None:
        """Return the finished layer of a key."""
        self._asked += 1
        if self._asked <= _FEW:
            return self._engine.find(key, self._namespace)
        if self._all is None:
            self._all = self._engine.layers(self._namespace)
        return self._all.get(key)


def _layer(layer: BuiltLayer | None) -> dict[str, object]:
    return {"layer": None if layer is None else row_of_layer(layer)}

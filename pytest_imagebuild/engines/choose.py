"""Choose an engine by its name. An adapter is loaded when it is chosen, and not before."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pytest_imagebuild.engines.loading import loading
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.errors import EngineError, EngineUnavailableError

__all__ = ["ENGINES", "choose_engine"]

ENGINES = {
    "docker": "pytest_imagebuild.engines.docker:DockerEngine",
    "embedded": "pytest_imagebuild.engines.embedded:EmbeddedEngine",
    "memory": "pytest_imagebuild.engines.memory:MemoryEngine",
}
"""The adapters: where the class of each is, as `module:name`. It takes `run` and `cache_dir`."""

_AUTOMATIC = ("docker", "embedded")


def choose_engine(name: str, *, run: str, cache_dir: Path) -> Engine:
    """Return the engine of that name; `auto` is the first that answers.

    `run` names the run in labels, `cache_dir` is where engines keep files. Raises EngineError for an unknown name,
    EngineUnavailableError when `auto` finds none.
    """
    if name != "auto":
        return _load(name, run=run, cache_dir=cache_dir)
    tried = []
    for candidate in _AUTOMATIC:
        try:
            engine = _load(candidate, run=run, cache_dir=cache_dir)
            engine.capabilities()
        except EngineUnavailableError as error:
            tried.append((candidate, error))
        else:
            return engine
    if len(tried) == 1:
        raise EngineUnavailableError(f"no engine can be used: {tried[0][1]}") from tried[0][1]
    causes = "\n".join(f"  {candidate}: {error}" for candidate, error in tried)
    raise EngineUnavailableError(f"no engine can be used:\n{causes}")


def _load(name: str, *, run: str, cache_dir: Path) -> Engine:
    if name not in ENGINES:
        message = f"there is no image engine named {name!r}; choose one of auto, {', '.join(sorted(ENGINES))}"
        raise EngineError(message)
    module, _, attribute = ENGINES[name].partition(":")
    with loading(name):
        adapter: Any = getattr(importlib.import_module(module), attribute)
    engine: Engine = adapter(run=run, cache_dir=cache_dir)
    return engine

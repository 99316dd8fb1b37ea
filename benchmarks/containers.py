"""What a container costs on each engine, and a step: embedded and Docker side by side, beside `docker run`.

`python benchmarks/containers.py [--rounds 21] [--short] [--docker ADDRESS ...]` prints a table of medians, with ratios
to the embedded engine. Everything is made of one base image, whose layers are taken away again at the end.

    start to first byte     a container of `cat` is started and sent a byte, which comes back
    stop                    that container is killed and removed
    `true`, to its end      a container of `true` is started, waited for and removed, as by `docker run --rm`
    first start             an engine is opened, and starts its first container: what a run with images pays once
    step                    a layer of one command, `true`
    configuration only      a layer that sets a variable

Processor time is that of this process and of those that it has waited for: that of a container of the embedded engine
counts where it is stopped, as far as its processes have ended by themselves; that of Docker's daemon and its
containers counts nowhere.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from measuring import Contestant, Took, Trial, say, timed
from places import Place, call
from running import Outcome, Setting, main

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Container, Engine, SessionSpec
from pytest_imagebuild.engines.work import ConfigChange, Work

START, STOP, TRUE, FIRST = "start to first byte", "stop", "`true`, to its end", "first start"
STEP, CONFIGURATION = "step", "configuration only"
NAMESPACE = "benchmark"


def containers(setting: Setting) -> Outcome:
    with ExitStack() as stack:
        contestants = []
        for place in setting.places:
            bench = Bench(place, setting.cache_dir, setting.base)
            stack.callback(bench.close)
            contestants.append(Contestant(name=place.name, engine=place.engine, trials=bench.trials()))
            if place.runs_docker:
                trial = DockerRun(place, bench.base.reference)
                contestants.append(Contestant(name=place.docker_run, trials=[trial]))
        setting.race(contestants)
    return Outcome(
        title="Containers and steps",
        contestants=contestants,
        rows=[START, STOP, TRUE, FIRST, STEP, CONFIGURATION],
    )


class Bench:
    """An engine that is open, with a base layer."""

    def __init__(self, place: Place, cache_dir: Path, base: str) -> None:
        self._place = place
        self._cache_dir = cache_dir
        self._numbers = itertools.count(1)
        self._engine = place.open(cache_dir)
        pin = self._engine.pin_base(base, say)
        self.base = self._engine.import_base(base, pin, self._labels(""), say)

    def trials(self) -> list[Trial]:
        return [self.container, self.true, self.first, self.step, self.configuration]

    def container(self) -> Mapping[str, Took]:
        start, container = timed(lambda: echoing(self._engine, self.base))
        stop, _ = timed(container.stop)
        return {START: start, STOP: stop}

    def true(self) -> Mapping[str, Took]:
        return {TRUE: timed(self._run_true)[0]}

    def first(self) -> Mapping[str, Took]:
        took, (engine, container) = timed(self._open_and_start)
        container.stop()
        engine.close()
        return {FIRST: took}

    def step(self) -> Mapping[str, Took]:
        return {STEP: self._build(Work(commands=("true",)))}

    def configuration(self) -> Mapping[str, Took]:
        return {CONFIGURATION: self._build(Work(config=ConfigChange(environment=(("NAME", "value"),))))}

    def close(self) -> None:
        self._engine.drop(NAMESPACE)
        self._engine.close()

    def _run_true(self) -> None:
        container = self._engine.start(self.base, SessionSpec(command=("true",)))
        while container.channel.receive(60):
            pass
        container.wait(60)
        container.stop()

    def _open_and_start(self) -> tuple[Engine, Container]:
        engine = self._place.open(self._cache_dir)
        return engine, echoing(engine, self.base)

    def _build(self, work: Work) -> Took:
        labels = self._labels(self.base.labels.key)
        return timed(lambda: self._engine.build(self.base, work, labels, say))[0]

    def _labels(self, parent: str) -> LayerLabels:
        key = f"{NAMESPACE}-{next(self._numbers)}"
        return LayerLabels(key=key, parent=parent, generation="", run=NAMESPACE, namespace=NAMESPACE)


class DockerRun:
    """The `docker` command, as one would type it."""

    def __init__(self, place: Place, reference: str) -> None:
        self._environment = place.environment
        self._command = ["docker", "run", "--rm", reference, "true"]

    def __call__(self) -> Mapping[str, Took]:
        return {TRUE: timed(lambda: call(self._command, Path("/"), self._environment))[0]}


def echoing(engine: Engine, layer: BuiltLayer) -> Container:
    """Start a container that has answered."""
    container = engine.start(layer, SessionSpec(command=("cat",)))
    container.channel.send(b"x")
    if container.channel.receive(60) != b"x":
        raise SystemExit(f"a container on {engine.name} does not answer: {container.channel.error_output()!r}")
    return container


if __name__ == "__main__":
    sys.exit(main(__doc__, 21, containers))

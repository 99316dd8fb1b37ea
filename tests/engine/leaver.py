"""A process with one of everything that an engine starts, to be killed by the test that started it.

arguments: the engine's name, the cache folder, the key of the layer to start from, the run's name
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import Work

from .conftest import opened


def main(name: str, cache_dir: str, key: str, run: str) -> None:
    with opened(name, Path(cache_dir)) as engine:
        layer = engine.layers()[key]
        labels = LayerLabels(key="left", parent="", generation="", run=run, namespace=run)
        engine.build(layer, Work(), labels, print)
        polite = engine.start(layer, SessionSpec(command=("cat",)))
        rude = engine.start(layer, SessionSpec(command=("sleep", "1000")))
        engine.serve(layer, ServiceSpec(command=("sleep", "1000")))
        work = Work(commands=("trap '' TERM; echo working; sleep 1000",))

        def ready(line: str) -> None:
            print("ready", polite.id, rude.id, flush=True)

        threading.Thread(target=engine.run, args=(layer, work, ready)).start()
        threading.Thread(target=engine.build, args=(layer, work, labels, ready)).start()
        time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])

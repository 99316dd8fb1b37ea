"""A process with a session, a service and a step of the embedded engine that hear no signal, to be killed by a test.

arguments: the cache folder, the key of the layer to start from
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from pytest_imagebuild.engines.embedded import EmbeddedEngine
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import Work

STUBBORN = "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM HUP; sleep 987654' &); sleep 987654"


def main(cache_dir: str, key: str) -> None:
    embedded = EmbeddedEngine(run="killed", cache_dir=Path(cache_dir))
    layer = embedded.layers()[key]
    labels = LayerLabels(key="never", parent="", generation="", run="killed")
    embedded.start(layer, SessionSpec(command=("sh", "-c", STUBBORN)))
    embedded.serve(layer, ServiceSpec(command=("sh", "-c", STUBBORN), ports=(80,))).port(80)

    def ready(line: str) -> None:
        time.sleep(0.5)
        print("ready", flush=True)

    step = Work(commands=("echo x; " + STUBBORN,))
    threading.Thread(target=embedded.build, args=(layer, step, labels, ready)).start()
    time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])

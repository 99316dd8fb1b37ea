"""Starts the process that keeps containers: `python .../__main__.py ENGINE CACHE_FOLDER PLACE REQUEST`.

It leaves whoever started it as soon as it listens. Where it cannot, it says why, and ends with 1.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    said, say = os.pipe()
    if os.fork():
        os.close(say)
        with open(said, encoding="utf-8", errors="replace") as answer:  # noqa: PTH123
            problem = answer.read()
        sys.stderr.write(problem)
        sys.exit(1 if problem else 0)
    os.close(said)
    os.setsid()
    sys.path[0] = __file__.rsplit("/", 3)[0]
    sys.path.append(sys.path.pop(0))
    import json
    from pathlib import Path

    from pytest_imagebuild.keeping.serving import serve

    engine, cache_dir, place, request = sys.argv[1:]
    log = os.open(f"{place}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    with open(say, "w", encoding="utf-8") as words:  # noqa: PTH123
        try:
            serve(engine, Path(cache_dir), Path(place), json.loads(request), listens=words.close)
        except Exception as error:
            if not words.closed:
                words.write(str(error) or repr(error))
            raise

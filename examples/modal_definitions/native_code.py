"""Native code: sources that a step needs are copied into a layer, and a change of them compiles anew."""

from __future__ import annotations

import ctypes
from pathlib import Path

from pytest_imagebuild import Image

LIBRARY = "/usr/local/lib/libsum.so"

image = (
    Image.debian_slim(python_version="3.13")
    .add_local_dir(Path(__file__).with_name("native"), "/src", copy=True)
    .workdir("/src")
    .run_commands(f"gcc -O2 -Wall -Werror -shared -fPIC -o {LIBRARY} sum.c", "strip " + LIBRARY)
    .dockerfile_commands("ENV SUM_LIBRARY=" + LIBRARY, "WORKDIR /tmp")
)


def sum_of_squares(library: str, numbers: list[int]) -> int:
    function = ctypes.CDLL(library).sum_of_squares
    function.restype = ctypes.c_long
    return int(function((ctypes.c_int * len(numbers))(*numbers), len(numbers)))

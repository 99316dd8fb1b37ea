"""Run a Python program as root of a user namespace: `join.py NAMESPACE PROGRAM`. Standard library only.

`NAMESPACE` is the number of an open file.
"""

from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    """Enter the namespace and become the program."""
    import ctypes  # noqa: PLC0415 - the engine wants to know where this program is

    _, namespace, program, *_ = sys.argv
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(int(namespace), 0x10000000) != 0:
        sys.exit(f"the user namespace cannot be entered: {os.strerror(ctypes.get_errno())}")
    os.close(int(namespace))
    del sys.argv[:2]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()

"""Every benchmark of engines and sessions, one after the other, and one table of what was aimed at.

`python benchmarks/all.py [--rounds 7] [--short] [--docker ADDRESS ...]` takes an hour or so, with `--short` a minute.
"""

from __future__ import annotations

import sys

from building import building
from checking import checking
from collecting import collecting
from containers import containers
from memory import memory
from running import main
from sessions import sessions
from startup import startup
from syncing import syncing

if __name__ == "__main__":
    sys.exit(main(__doc__, 7, startup, collecting, containers, sessions, checking, syncing, building, memory))

"""`imagebuild` for a store that has layers of others: it sees only those of one test."""

from __future__ import annotations

__all__ = ["MINE"]

MINE = """\
import sys
from pathlib import Path
from pytest_imagebuild.cli import main
from pytest_imagebuild.engines.docker import DockerEngine
from pytest_imagebuild.engines.embedded import EmbeddedEngine

text, until, *arguments = sys.argv[1:]

def only_mine(engine):
    every = engine.stored

    def stored(self):
        layers = {one.built.labels.key: one for one in every(self)}

        def is_mine(one):
            parent = layers.get(one.built.labels.parent)
            return text in one.built.labels.step or (parent is not None and is_mine(parent))

        return [one for one in layers.values() if is_mine(one)]

    engine.stored = stored
    engine.remnants = lambda self, claimed: ()

for engine in (DockerEngine, EmbeddedEngine):
    only_mine(engine)
code = main(arguments)
while until and not Path(until).exists():
    code |= main(arguments)
sys.exit(code)
"""
"""The command, which sees only the layers on those whose step holds a text.

It does its work again and again until there is a file, where one is named.
"""

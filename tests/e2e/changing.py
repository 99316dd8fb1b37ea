"""A project of more files than are sent to each container, and what is done to them between runs, or during runs."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import tellingtree
from tellingtree import Row, text_of

__all__ = ["EXPECTED", "TREE", "ChangingProject"]

EXPECTED = "SOAK_EXPECTED"
"""The variable that tells a run which files there are."""

TREE = "tree"
"""The folder of a project whose files change."""

FEWEST, MOST = 120, 180
"""From 100 on, they are kept in the engine."""
LOOSE = "d9"
"""The folder of a restless project from which files may go."""
ALL_ANEW = 0.3
"""How often every file is written anew, so that the layer is made anew."""

CONFTEST = f"""\
import json
import os
from pathlib import Path

import pytest
import tellingtree

TREE = Path(__file__).with_name("{TREE}")


def pytest_addoption(parser):
    # Of the host: in a container there is no such variable, and the option has the value that it has here.
    parser.addoption("--expected", default=os.environ.get("{EXPECTED}"))


@pytest.fixture(autouse=True)
def tree(request):
    expected = json.loads(request.config.getoption("expected"))
    alone = "isolated" in request.node.name
    assert tellingtree.wrong(tellingtree.look(TREE), expected) == {{}}
    yield
    if alone:
        # Nobody else must ever see it.
        for path in [path for path in TREE.rglob("*") if path.is_file()]:
            path.write_text("of a test 000000001")
        (TREE / "written").touch()
"""


class ChangingProject:
    """A project in `folder`, which is made. One that is not restless is to be changed only while no run is on it."""

    def __init__(self, folder: Path, chance: random.Random, *, restless: bool) -> None:
        self.folder = folder
        self.restless = restless
        self.due = False
        """Whether it waits for a change, and no run should be begun on it."""
        self._chance = chance
        self._tree = folder / TREE
        self._making = folder.with_name(f"{folder.name}-making")
        self._versions = itertools.count(1)
        self._last = 0
        self._rows: dict[str, Row] = {}
        self._tree.mkdir(parents=True)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "tellingtree.py").write_text(Path(tellingtree.__file__).read_text())
        while len(self._rows) < FEWEST:
            self._write(self._any_path())

    def expected(self) -> str:
        """Return the value of `EXPECTED` for a run that begins now."""
        loose = [LOOSE] if self.restless else []
        return json.dumps({"exact": not self.restless, "last": self._last, "loose": loose, "rows": self._rows})

    def change(self) -> bool:
        """Do something to some files; say whether it was so much that they are kept anew."""
        self.due = False
        much = self._chance.random() < ALL_ANEW
        if much:
            for path in tuple(self._rows):
                self._write(path)
        for _ in range(self._chance.randint(1, 8)):
            self._change_one()
        return much

    def _change_one(self) -> None:
        some = self._chance.choice(sorted(self._rows))
        going = self._chance.choice(sorted(filter(self._may_go, self._rows)) or [f"{LOOSE}/f00"])
        acts = {
            "write": lambda: self._write(some),
            "write, with the time of before": lambda: self._write(some, changed=self._rows[some][2]),
            "mode": lambda: self._set_mode(some),
            "link": lambda: self._link(going),
            "remove": lambda: self._remove(going),
            "add": lambda: self._write(self._any_path()),
            "a folder in the place of a file": lambda: self._write(f"{going}/below"),
        }
        drawn = self._chance.choice(list(acts))
        if len(self._rows) < FEWEST:
            drawn = "add"
        elif len(self._rows) > MOST:
            drawn = "remove"
        acts[drawn]()

    def _may_go(self, path: str) -> bool:
        return not self.restless or path.startswith(f"{LOOSE}/")

    def _any_path(self) -> str:
        path = f"d{self._chance.randrange(10)}/f{self._chance.randrange(30):02}"
        return path if self._may_go(path) or path in self._rows or len(self._rows) < FEWEST else f"{LOOSE}{path[2:]}"

    def _write(self, path: str, *, changed: int | None = None) -> None:
        version = self._last = next(self._versions)
        before = self._rows.get(path, (0, 0o644, 0))
        row = version, before[1] or 0o644, changed or int(time.time()) - self._chance.randrange(10**6)
        place = self._tree / path
        in_place = not self.restless and place.is_file() and not place.is_symlink() and self._chance.random() < 0.5
        written = place if in_place else self._making
        written.write_text(text_of(path, version))
        written.chmod(row[1])
        os.utime(written, (row[2], row[2]))
        if not in_place:
            self._put(path)
        self._rows[path] = row

    def _set_mode(self, path: str) -> None:
        version, mode, changed = self._rows[path]
        if not mode or self.restless:
            self._write(path)
            return
        self._rows[path] = version, mode ^ 0o111, changed
        (self._tree / path).chmod(mode ^ 0o111)

    def _link(self, path: str) -> None:
        version = self._last = next(self._versions)
        self._making.symlink_to(f"nowhere/{version}")
        self._put(path)
        self._rows[path] = version, 0, 0

    def _put(self, path: str) -> None:
        """Give what was made its place, in one step where there is a file."""
        for other in [*self._above(path), *(other for other in self._rows if other.startswith(f"{path}/"))]:
            self._remove(other)
        (self._tree / path).parent.mkdir(parents=True, exist_ok=True)
        self._making.replace(self._tree / path)

    def _above(self, path: str) -> Iterator[str]:
        return (str(parent) for parent in Path(path).parents if str(parent) in self._rows)

    def _remove(self, path: str) -> None:
        if self._rows.pop(path, None) is None:
            return
        place = self._tree / path
        place.unlink()
        while place.parent != self._tree and not any(place.parent.iterdir()):
            place = place.parent
            place.rmdir()

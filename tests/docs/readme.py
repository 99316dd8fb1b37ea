"""The README as tests see it: its sections, with the fenced blocks and tables in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs a command line in a folder: `(line, folder, *, timeout, **variables)`."""

_ENGINES: dict[str, dict[str, str]] = {"docker": {}, "embedded": {"IMAGEBUILD_ENGINE": "embedded"}}
_CHOSEN = os.environ.get("IMAGEBUILD_TEST_ENGINES", ",".join(_ENGINES)).split(",")
ENGINES = {name: variables for name, variables in _ENGINES.items() if name in _CHOSEN}
"""The variables that choose each engine. A reader who has Docker sets none."""

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. `info` are the words after its fence."""

    info: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, None for one that is no file."""
        return self.info[1] if len(self.info) == 2 and self.info[0] != "console" else None

    @property
    def exit_code(self) -> int:
        """The exit code of the last command of a console block."""
        return next((int(word.removeprefix("exit=")) for word in self.info if word.startswith("exit=")), 0)

    def commands(self) -> list[Command]:
        """The commands of a console block: lines that begin with `$ `, each with the output below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert not parts[0], f"a console block begins with `$ `: {self.text}"
        found = [Command(line=part.splitlines()[0], output=tuple(part.splitlines()[1:])) for part in parts[1:]]
        found[-1].exit_code = self.exit_code
        return found


@dataclass(kw_only=True)
class Command:
    """A command and lines of its output, in order; `…` stands for anything."""

    line: str
    output: tuple[str, ...]
    exit_code: int = 0

    def missing_from(self, printed: str) -> str | None:
        """Return the first line of `output` that `printed` does not have where it should."""
        lines = iter(_without_progress(line) for line in printed.splitlines())
        for wanted in self.output:
            pattern = re.compile(".*".join(re.escape(part.rstrip()) for part in wanted.split("…")))
            if not any(pattern.fullmatch(line) for line in lines):
                return wanted
        return None


@dataclass(kw_only=True)
class Section:
    """What stands below one heading."""

    title: str
    text: str
    blocks: list[Block] = field(default_factory=list)

    def runs(self) -> bool:
        return any(block.info[0] == "console" for block in self.blocks)

    def on(self, engine: str) -> Section:
        """Return the section as it reads where that engine is used."""
        blocks = [replace(block, text=block.text.replace("(docker)", f"({engine})")) for block in self.blocks]
        return replace(self, blocks=blocks)

    def tables(self) -> list[list[list[str]]]:
        """The tables: rows of cells, without their heads."""
        found = re.findall(r"(?:^\|.*\n)+", self.text, flags=re.MULTILINE)
        return [[_cells(row) for row in table.splitlines()[2:]] for table in found]

    def first_cells(self, table: int = 0) -> list[str]:
        return [row[0] for row in self.tables()[table]]


def sections() -> Iterator[Section]:
    for part in re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        title, _, text = part.partition("\n")
        blocks = [
            Block(info=tuple(match["info"].split()), text=match["text"]) for match in _FENCE.finditer(f"{text}\n")
        ]
        yield Section(title=title, text=_FENCE.sub("", text), blocks=blocks)


def section(title: str) -> Section:
    return next(found for found in sections() if found.title == title)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def _without_progress(line: str) -> str:
    """Leave out what depends on how many tests there are, and the rulers around totals."""
    return re.sub(r"\s+\[\s*\d+%\]$|^=+ (?=\d)| =+$", "", line).rstrip()

"""The text that a builder gets: pinned images for references, and what `RUN` is lent. Pure.

No line moves: an instruction that is rewritten stands in the last of the lines that it had, so a builder's line numbers
mean the user's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_imagebuild.dockerfile import Command, Copy, Dockerfile, From, Instruction, Run, Stage
from pytest_imagebuild.dockerfile.commands import DEFAULT_SHELL, executed
from pytest_imagebuild.dockerfile.lines import directives_of
from pytest_imagebuild.dockerfile.stages import SCRATCH

__all__ = ["ENVIRONMENT", "Loan", "rewritten"]

ENVIRONMENT = "imagebuild-environment"
"""The name of the secret that holds the variables of `RUN`, as a script that exports them."""
_PROGRAM = (
    'file=/tmp/.imagebuild-program-$$; printf %s "$1" >"$file" && chmod 755 "$file" && "$file"; '
    'code=$?; rm -f "$file"; exit $code'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loan:
    """What `RUN` is lent: whether there are variables, and files by the names of their secrets, with their paths."""

    variables: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.variables or bool(self.files)


def rewritten(
    dockerfile: Dockerfile,
    text: str,
    *,
    image: Callable[[str | None], str],
    shell: Callable[[str | None], Sequence[str] | None],
    loan: Loan,
    prune: bool = False,
) -> str:
    """Return the text for a builder.

    `image` gives the name of the image that a reference stands for, `shell` the `SHELL` of that image; None is the
    layer below. With `prune`, stages that are not needed are emptied.
    """
    lines = _without_frontend(text.split("\n"))
    shells: dict[int, Sequence[str]] = {}
    for stage in dockerfile.stages:
        needed = stage.number in dockerfile.needed
        if not needed:
            if prune:
                _empty(lines, stage)
            continue
        base = None if dockerfile.stands_on_parent(stage.number) else stage.image
        outside = (stage.below is None and stage.image != SCRATCH) or base is None
        if outside:
            name = f" AS {stage.begin.name}" if stage.begin.name else ""
            _replace(lines, stage.begin, f"FROM {image(base)}{name}")
            shells[stage.number] = shell(base) or DEFAULT_SHELL
        else:
            shells[stage.number] = DEFAULT_SHELL if stage.below is None else shells[stage.below]
        _Body(dockerfile, stage, lines, image, loan).rewrite(shells)
    return "\n".join(lines)


def _without_frontend(lines: list[str]) -> list[str]:
    """Take away `# syntax=`: the engine has a frontend of its own, and nothing pins the one that would be fetched."""
    directives = directives_of("\n".join(lines))
    kept = [f"# {name}={value}" for name, value in directives.items() if name == "escape"]
    return [*kept, *["#"] * (len(directives) - len(kept)), *lines[len(directives) :]]


@dataclass(frozen=True, slots=True)
class _Body:
    """The instructions of one stage."""

    dockerfile: Dockerfile
    stage: Stage
    lines: list[str]
    image: Callable[[str | None], str]
    loan: Loan

    def rewrite(self, shells: dict[int, Sequence[str]]) -> None:
        names = dict(self.dockerfile.used_by_text(self.stage))
        number = self.stage.number
        for item in self.stage.instructions:
            if isinstance(item, Command) and item.keyword == "SHELL":
                shells[number] = item.argv
            elif isinstance(item, Copy) and item.stage:
                new = self._source(names, item.source)
                if new != item.source:
                    _replace(self.lines, item, new)
            elif isinstance(item, Run):
                self._run(item, names, shells[number])

    def _source(self, names: Mapping[str, str], source: str) -> str:
        """Put the names of pinned images in the place of references."""

        def pinned(match: re.Match[str]) -> str:
            name = names.get(match["name"], match["name"])
            outside = name and self.dockerfile.stage(name, self.stage.number) is None
            return match["flag"] + (self.image(name) if outside else match["name"])

        return re.sub(r"(?P<flag>\bfrom=)(?P<name>[^\s,\"']+)", pinned, source)

    def _run(self, item: Run, names: Mapping[str, str], shell: Sequence[str]) -> None:
        flags = self._source(names, _flags(item))
        if not self.loan:
            if flags != _flags(item):
                rest = item.source.removeprefix("RUN ").strip()
                while rest.startswith("--"):
                    rest = rest.partition(" ")[2].lstrip()
                _replace(self.lines, item, f"RUN {flags}{rest}")
            return
        _replace(self.lines, item, f"RUN {self._lent()}{flags}{self._command(item, shell)}", with_documents=False)

    def _lent(self) -> str:
        mounts = [f"id={name},target={path},mode=0444" for name, path in self.loan.files.items()]
        if self.loan.variables:
            mounts.append(f"id={ENVIRONMENT},mode=0444,required=true")
        return "".join(f"--mount=type=secret,{mount} " for mount in mounts)

    def _command(self, item: Run, shell: Sequence[str]) -> str:
        done = executed(item, shell)
        first = f". /run/secrets/{ENVIRONMENT}; " if self.loan.variables else ""
        if done.program:
            argv = ["/bin/sh", "-c", first + _PROGRAM, "sh", done.program]
        elif first:
            argv = ["/bin/sh", "-c", f'{first}exec "$@"', "sh", *done.argv]
        else:
            argv = list(done.argv)
        return json.dumps(argv, ensure_ascii=False)


def _flags(item: Run) -> str:
    return "".join(f"--{name}={value} " for name, values in item.flags.items() for value in values)


def _empty(lines: list[str], stage: Stage) -> None:
    name = f" AS {stage.begin.name}" if stage.begin.name else ""
    _replace(lines, stage.begin, f"FROM {SCRATCH}{name}")
    for item in stage.instructions:
        _replace(lines, item, "", with_documents=False)


def _replace(lines: list[str], item: From | Instruction, new: str, *, with_documents: bool = True) -> None:
    """Write one instruction anew in the place where it was; its here-documents stay below it."""
    documents = item.heredocs if with_documents and isinstance(item, (Run, Copy)) else ()
    last = item.end - sum(document.content.count("\n") + 1 for document in documents)
    span: Iterable[int] = range(item.line - 1, last)
    for number in span:
        lines[number] = ""
    lines[last - 1] = new

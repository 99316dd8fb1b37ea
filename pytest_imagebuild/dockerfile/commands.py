"""What a `RUN` executes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_imagebuild.dockerfile.instructions import Run
from pytest_imagebuild.dockerfile.lines import heredoc_of

__all__ = ["DEFAULT_SHELL", "Executed", "executed"]

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, kw_only=True, slots=True)
class Executed:
    """`argv`, or, where a here-document begins with `#!`, the content of a program, in `program`."""

    argv: tuple[str, ...] = ()
    program: str = ""


def executed(run: Run, shell: Sequence[str]) -> Executed:
    """Return what a `RUN` executes under the `SHELL` that holds there."""
    if not run.shell:
        return Executed(argv=run.argv)
    command = run.argv[0]
    if run.heredocs and heredoc_of(command) is not None:
        text = run.heredocs[0].text
        return Executed(program=text) if text.startswith("#!") else Executed(argv=(*shell, text))
    documents = "".join(f"\n{document.content}{document.name}" for document in run.heredocs)
    return Executed(argv=(*shell, command + documents))

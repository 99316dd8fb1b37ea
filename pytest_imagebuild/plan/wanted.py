"""Which files of its build context a Dockerfile wants, as far as that is known before it is executed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_imagebuild.dockerfile import Copy, Dockerfile, DockerfileError, Pairs, Run, Stage
from pytest_imagebuild.dockerfile.scope import Scope
from pytest_imagebuild.dockerfile.stages import SCRATCH
from pytest_imagebuild.dockerfile.urls import is_remote

__all__ = ["Wanted", "wanted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A source in the build context. `keyword` and `line` say which instruction wants it."""

    source: str
    keyword: str
    line: int


def wanted(dockerfile: Dockerfile) -> Iterator[Wanted]:
    """Return the sources of the needed stages. Raises DockerfileError where one depends on what is not known."""
    scopes: dict[int, _Known] = {}
    for number in dockerfile.needed:
        stage = dockerfile.stages[number]
        known = scopes[number] = _begin(dockerfile, stage, scopes)
        for item in stage.instructions:
            if isinstance(item, Pairs):
                known.take(item)
            elif isinstance(item, Copy) and not item.stage:
                for source in item.sources:
                    expanded = known.expand(source, item)
                    if not is_remote(expanded):
                        yield Wanted(source=expanded, keyword=item.keyword, line=item.line)
            elif isinstance(item, Run):
                for mount in item.mounts:
                    if mount.kind == "bind" and not mount.options.get("from"):
                        source = known.expand(mount.options.get("source", "."), item)
                        yield Wanted(source=source, keyword="RUN --mount=type=bind", line=item.line)


def _begin(dockerfile: Dockerfile, stage: Stage, scopes: dict[int, _Known]) -> _Known:
    scope = dockerfile.scope()
    if stage.below is not None:
        below = scopes[stage.below]
        scope.environment.update(below.scope.environment)
        return _Known(scope, everything=below.everything)
    return _Known(scope, everything=stage.image == SCRATCH)


@dataclass(slots=True)
class _Known:
    """The variables of a stage that are known. With `everything`, there are no others: no image is below it."""

    scope: Scope
    everything: bool

    def take(self, item: Pairs) -> None:
        if item.keyword == "ARG":
            self.scope.argue(item)
        elif item.keyword == "ENV":
            self.scope.environment.update(self.scope.pairs(item))

    def expand(self, text: str, item: Copy | Run) -> str:
        def lookup(name: str) -> str | None:
            value = self.scope.lookup(name)
            if value is None and not self.everything:
                raise DockerfileError(
                    item.line,
                    f"{text} needs the value of ${name}, which is not known before the build: only the image below "
                    f"could say it. Give it a default with ARG {name}=…, or name the files.",
                )
            return value

        return self.scope.expand(text, item.line, lookup)

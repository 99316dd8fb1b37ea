"""The stages of a Dockerfile, which of them are needed, and which images they refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pytest_imagebuild.dockerfile.fault import DockerfileError
from pytest_imagebuild.dockerfile.instructions import Copy, From, Instruction, Pairs, Run
from pytest_imagebuild.dockerfile.parser import parse
from pytest_imagebuild.dockerfile.scope import Scope, platform_arguments

__all__ = ["SCRATCH", "Dockerfile", "Stage", "read"]

SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage. `image` is what its `FROM` names, expanded; `below` is the stage of that name, if there is one."""

    number: int
    begin: From
    image: str
    platform: str
    below: int | None
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A file that was read. `outer` are the arguments before its first stage.

    With `on_parent`, the first stage stands on the image that is there already, whatever its `FROM` says.
    """

    stages: tuple[Stage, ...]
    outer: Mapping[str, str]
    given: Mapping[str, str]
    escape: str
    target: int
    on_parent: bool
    instruction_lines: tuple[int, ...]
    """The line of every instruction, in order."""

    def scope(self) -> Scope:
        """Return the variables at the beginning of a stage."""
        return Scope(given=self.given, outer=self.outer, escape=self.escape)

    def stage(self, name: str, before: int) -> int | None:
        """Return the stage that `--from` means in the stage `before`: by its name or number; None for an image."""
        by_name = [stage.number for stage in self.stages[:before] if stage.begin.name == name.lower()]
        if by_name and name:
            return by_name[-1]
        if name.isdecimal() and int(name) < before:
            return int(name)
        return None

    def check_platform(self, platform: str) -> None:
        """Raise DockerfileError where a needed stage asks for another platform than the one that is built for."""
        for stage in map(self.stages.__getitem__, self.needed):
            if stage.platform and _plain(stage.platform) != _plain(platform):
                problem = f"FROM asks for the platform {stage.platform}, and this engine builds for {platform}"
                raise DockerfileError(stage.begin.line, problem)

    @cached_property
    def needed(self) -> tuple[int, ...]:
        """The stages without which the last one cannot be made, in order."""
        found: set[int] = set()
        waiting = [self.target]
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            stage = self.stages[number]
            used = [self.stage(name, number) for _, name in self.used(stage)]
            waiting += [other for other in (stage.below, *used) if other is not None]
        return tuple(sorted(found))

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The images from outside that the needed stages refer to, each once, in order."""
        found: list[str] = []
        for number in self.needed:
            stage = self.stages[number]
            if stage.below is None and stage.image != SCRATCH and not self.stands_on_parent(number):
                found.append(stage.image)
            found += [name for _, name in self.used(stage) if self.stage(name, number) is None]
        return tuple(dict.fromkeys(found))

    def stands_on_parent(self, number: int) -> bool:
        """Say whether a stage stands on the image that is there already."""
        return self.on_parent and number == 0

    def used_by_text(self, stage: Stage) -> list[tuple[str, str]]:
        """Return what stands in each `--from` and `from=` of a stage, and what it is once it is expanded."""
        return [(text, name) for _, text, name in self._used(stage)]

    def used(self, stage: Stage) -> list[tuple[int, str]]:
        """Return line and name of every stage or image that a stage takes files from."""
        return [(line, name) for line, _, name in self._used(stage) if name]

    def _used(self, stage: Stage) -> list[tuple[int, str, str]]:
        scope = Scope(given=self.given, outer=self.outer, escape=self.escape)
        found: list[tuple[int, str, str]] = []
        for item in stage.instructions:
            if isinstance(item, Pairs) and item.keyword == "ARG":
                scope.argue(item)
            found += [(item.line, name, scope.expand(name, item.line)) for name in _from_of(item)]
        return found


def read(
    text: str, *, build_args: Mapping[str, str], platform: str, target: str = "", on_parent: bool = False
) -> Dockerfile:
    """Read a Dockerfile with its build arguments, for a platform ("linux/amd64"). Raises DockerfileError."""
    instructions, escape = parse(text)
    outer = Scope(given=build_args, escape=escape, arguments=platform_arguments(platform))
    stages: list[Stage] = []
    for item in instructions:
        if isinstance(item, From):
            stages.append(_stage(item, stages, outer))
        elif stages:
            stages[-1] = replace(stages[-1], instructions=(*stages[-1].instructions, item))
        elif isinstance(item, Pairs) and item.keyword == "ARG":
            outer.argue(item)
        else:
            raise DockerfileError(item.line, f"{item.source.partition(' ')[0]} stands before the first FROM")
    if not stages:
        raise DockerfileError(1, "there is no FROM")
    return Dockerfile(
        stages=tuple(stages),
        outer=dict(outer.arguments),
        given=build_args,
        escape=escape,
        target=_target(target, stages),
        on_parent=on_parent,
        instruction_lines=tuple(item.line for item in instructions),
    )


def _stage(item: From, before: list[Stage], outer: Scope) -> Stage:
    image = outer.expand(item.image, item.line)
    if not image:
        raise DockerfileError(item.line, f"FROM {item.image} is empty once its variables are replaced")
    named = [stage.number for stage in before if stage.begin.name and stage.begin.name == image.lower()]
    return Stage(
        number=len(before),
        begin=item,
        image=image,
        platform=outer.expand(item.platform, item.line),
        below=named[-1] if named else None,
        instructions=(),
    )


def _plain(platform: str) -> str:
    system, _, architecture = platform.lower().partition("/")
    names = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "arm64/v8": "arm64"}
    return f"{system}/{names.get(architecture, architecture)}"


def _target(name: str, stages: list[Stage]) -> int:
    if not name:
        return len(stages) - 1
    for stage in reversed(stages):
        if stage.begin.name == name.lower() or str(stage.number) == name:
            return stage.number
    raise DockerfileError(1, f"there is no stage named {name!r}")


def _from_of(item: Instruction) -> list[str]:
    if isinstance(item, Copy):
        return [item.stage] if item.stage else []
    if isinstance(item, Run):
        return [mount.options["from"] for mount in item.mounts if mount.options.get("from")]
    return []

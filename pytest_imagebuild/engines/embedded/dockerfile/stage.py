"""One stage of a Dockerfile while it is executed."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_imagebuild.dockerfile import (
    Command,
    Copy,
    DockerfileError,
    From,
    Healthcheck,
    Instruction,
    Pairs,
    Run,
    Stage,
    Value,
    Words,
    parse_instruction,
)
from pytest_imagebuild.dockerfile.commands import executed
from pytest_imagebuild.dockerfile.scope import PREDEFINED, Scope
from pytest_imagebuild.dockerfile.urls import is_url
from pytest_imagebuild.engines.configuration import workdir_of
from pytest_imagebuild.engines.embedded.dockerfile.material import Material
from pytest_imagebuild.engines.embedded.dockerfile.refusal import check_instruction
from pytest_imagebuild.engines.embedded.dockerfile.running import Lent, Program, Runner
from pytest_imagebuild.engines.embedded.dockerfile.settings import Settings
from pytest_imagebuild.engines.embedded.dockerfile.users import owner_of, user_of
from pytest_imagebuild.engines.embedded.files import Stack
from pytest_imagebuild.engines.embedded.rooms import Room
from pytest_imagebuild.engines.embedded.store import Record
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.work import CommandFailed, DockerfileWork
from pytest_imagebuild.errors import EngineError

__all__ = ["Base", "StageBuild"]

_PROGRAM = "/dev/imagebuild-program"
_CACHE_MODE = 0o755


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What a stage stands on: a layer, and folders on top of it, the lowest first."""

    record: Record
    written: tuple[Path, ...]
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageBuild:
    """`trees_of` gives the folders of another stage, or of an image, by its name in `--from`, the uppermost first."""

    stage: Stage
    scope: Scope
    settings: Settings
    room: Room
    base: Base
    trees_of: Callable[[str], Sequence[Path]]
    material: Material
    work: DockerfileWork
    runner: Runner
    output: Output

    @property
    def written(self) -> list[Path]:
        """The folders on top of the layer that the stage stands on, the lowest first."""
        return [*self.base.written, self.room.upper.folder]

    def execute(self) -> None:
        """Do every instruction. Raises CommandFailed at the line of the one that failed."""
        self.scope.environment.update(self.settings.environment)
        for item in (*self._triggers(), *self.stage.instructions):
            try:
                self._do(item)
            except EngineError as error:
                raise CommandFailed(index=item.line, exit_code=1, output=str(error)) from error

    def _triggers(self) -> Iterator[Instruction]:
        for text in self.settings.triggers:
            line = self.stage.begin.line
            item = replace(parse_instruction(text, line), line=line, end=line)
            check_instruction(item)
            yield item

    def _do(self, item: Instruction) -> None:
        self.output(f"{item.source.partition(' ')[0]} {item.source.partition(' ')[2]}")
        match item:
            case Pairs():
                self._pairs(item)
            case Value():
                self._value(item)
            case Words():
                self.settings.set_words(item, self.scope)
            case Command():
                self.settings.set_command(item)
            case Healthcheck():
                self.settings.set_healthcheck(item)
            case Copy():
                self._copy(item)
            case Run():
                self._run(item)
            case From():
                raise AssertionError("a stage has one FROM, which is no instruction of it")

    def _pairs(self, item: Pairs) -> None:
        if item.keyword == "ARG":
            self.scope.argue(item)
            return
        pairs = self.scope.pairs(item)
        if item.keyword == "ENV":
            self.settings.set_environment(pairs)
            self.scope.environment.update(pairs)
        else:
            self.settings.set_labels(pairs)

    def _value(self, item: Value) -> None:
        value = item.value if item.keyword == "ONBUILD" else self.scope.expand(item.value, item.line)
        self.settings.set_value(item, value)
        if item.keyword == "WORKDIR":
            made = self.room.upper.make_folder(self.settings.workdir)
            if made and self.settings.user:
                user = user_of(self.room.upper, self.settings.user)
                self.room.upper.own(made, user.uid, user.gid)

    def _copy(self, item: Copy) -> None:
        destination = self.scope.expand(item.destination, item.line)
        upper = self.room.upper
        chown = self.scope.expand(item.chown, item.line)
        asked = owner_of(upper, chown) if chown else None
        several = len(item.sources) + len(item.heredocs) > 1
        upper.copy(
            {
                "sources": [([str(tree) for tree in trees], path) for trees, path in self._sources(item)],
                "destination": workdir_of(self.settings.config, destination),
                "into": several or destination.endswith(("/", "/.")) or destination == ".",
                "owner": asked or (None if item.stage else (0, 0)),
                "asked_owner": asked,
                "mode": self._mode(item),
                "unpack": item.keyword == "ADD" if item.unpack is None else item.unpack,
                "scratch": str(self.material.new_folder()),
            }
        )

    def _sources(self, item: Copy) -> Iterator[tuple[Sequence[Path], str]]:
        name = self.scope.expand(item.stage, item.line)
        for source in item.sources:
            path = self.scope.expand(source, item.line)
            if is_url(path) and item.keyword == "ADD":
                folder, file = self.material.download(path, self.scope.expand(item.checksum, item.line))
                yield [folder], f"/{file}"
            else:
                yield self.trees_of(name) if name else [self.material.context()], posixpath.join("/", path)
        for document in item.heredocs:
            text = document.text
            if document.expand:
                text = self._expanded(text, item.line)
            yield [self.material.document(document.name, text)], f"/{document.name}"

    def _expanded(self, text: str, line: int) -> str:
        """Expand the variables of a here-document, in which quotes mean nothing."""
        quoted = text.replace('"', '\\"') if self.scope.escape == "\\" else text.replace('"', '`"')
        return self.scope.expand(f'"{quoted}"', line)

    def _mode(self, item: Copy) -> int | None:
        text = self.scope.expand(item.chmod, item.line)
        if not text:
            return None
        try:
            return int(text, 8) & 0o7777
        except ValueError:
            problem = f"--chmod of {item.keyword} is an octal number for the embedded engine, not {text!r}"
            raise DockerfileError(item.line, problem) from None

    def _run(self, item: Run) -> None:
        done = executed(item, self.settings.shell)
        lent = [self._lent(item, mount.kind, dict(mount.options)) for mount in item.mounts]
        argv = done.argv
        if done.program:
            folder = self.material.document("program", done.program, 0o755)
            lent.append(Lent(target=_PROGRAM, source=folder / "program"))
            argv = (_PROGRAM,)
        variables = {**self.scope.arguments, **self.scope.environment, **self.work.variables}
        predefined = {name: self.work.build_args[name] for name in PREDEFINED if name in self.work.build_args}
        for secret in lent:
            variables.update(secret.variables)
        program = Program(
            argv=argv,
            environment={**predefined, **variables},
            workdir=self.settings.workdir,
            user=user_of(self.room.upper, self.settings.user),
            network="none" if item.network == "none" else self.work.network,
            lent=[one for one in lent if one.target],
            tools=self.work.tools,
        )
        self.runner.run(self.room, program, item.line, self.output)

    def _lent(self, item: Run, kind: str, options: dict[str, str]) -> Lent:
        given = {name: self.scope.expand(value, item.line) for name, value in options.items()}
        if kind == "secret":
            return self._secret(item, given)
        target = workdir_of(self.settings.config, given["target"])
        if kind == "bind":
            writable = given.get("readonly", "true") == "false"
            return Lent(target=target, source=self._bound(given, copied=writable), writable=writable)
        if kind == "tmpfs":
            source = self.material.new_folder()
            source.chmod(0o1777)
            return Lent(target=target, source=source, writable=True)
        return Lent(target=target, source=self._cache(given, target), writable=given.get("readonly") != "true")

    def _cache(self, given: dict[str, str], target: str) -> Path:
        """Return the folder of a cache, the same for every `RUN` of this build that names it."""
        name = "cache-" + (given.get("id") or target).encode().hex()[:120]
        folder = self.material.folder / name
        if not folder.exists():
            folder.mkdir()
            folder.chmod(int(given.get("mode", f"{_CACHE_MODE:o}"), 8))
            if "uid" in given or "gid" in given:
                folder.chmod(0o777)
        return folder

    def _bound(self, given: dict[str, str], *, copied: bool) -> Path:
        source = posixpath.normpath(posixpath.join("/", given.get("source", "/"))).lstrip("/")
        name = given.get("from", "")
        if not name:
            found = self.material.context() / source
            if not found.exists():
                raise EngineError(f"/{source}: there is no such file or folder in the build context")
            if not copied:
                return found
            target = self.material.new_folder() / "copy"
            return Path(shutil.copytree(found, target) if found.is_dir() else shutil.copy2(found, target))
        target = self.material.new_folder()
        self.room.files.copy(
            _plain_stack(target, self.room),
            {
                "sources": [([str(tree) for tree in self.trees_of(name)], f"/{source}")],
                "destination": "/copy",
                "into": False,
                "owner": None,
                "asked_owner": None,
                "mode": None,
                "unpack": False,
                "scratch": str(self.material.folder),
            },
        )
        return target / "copy"

    def _secret(self, item: Run, given: dict[str, str]) -> Lent:
        name = given.get("id") or posixpath.basename(given.get("target", ""))
        value = self.work.secrets.get(name)
        if value is None:
            if given.get("required", "false") == "true":
                raise DockerfileError(
                    item.line, f"RUN --mount=type=secret requires {name}, and no secret has that name"
                )
            return Lent(target="")
        variables = {given["env"]: value} if "env" in given else {}
        if variables and "target" not in given:
            return Lent(target="", variables=variables)
        target = workdir_of(self.settings.config, given.get("target") or f"/run/secrets/{name}")
        # It belongs to root; who else is to read it can only be let in by the mode.
        mode = int(given.get("mode", "444" if {"uid", "gid"} & given.keys() else "400"), 8)
        return Lent(target=target, data=value.encode("utf-8", "surrogateescape"), mode=mode, variables=variables)


def _plain_stack(folder: Path, room: Room) -> Stack:
    """Return a folder as one that is written to, with nothing below it."""
    empty = room.folder / "nothing"
    empty.mkdir(exist_ok=True)
    return Stack(upper=folder, trees=(empty,))

"""A Dockerfile that says what a plan says: one block for each chain call, for builders that know nothing of us.

Every Dockerfile builder takes it: BuildKit, the classic builder of Docker, Podman. What differs from a build of ours is
said in comments. The lines of installers are those of the reference, so versions are looked up when it is built.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import DefinitionError, SourceLocation
from pytest_imagebuild.image.base_names import published_name
from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.dockerfile_lines import DockerfileLines
from pytest_imagebuild.image.instructions import (
    AddPython,
    CopyLocal,
    Install,
    Instruction,
    PrependPath,
    PrivateRepositories,
    Run,
    SetCommand,
    SetEntrypoint,
    SetEnv,
    SetShell,
    SetWorkdir,
)
from pytest_imagebuild.image.patterns import FilePatternMatcher
from pytest_imagebuild.image.sources import Ignore, LocalDir, LocalFile, LocalPythonSource, LocalSource
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import without_credentials
from pytest_imagebuild.lockfile import BaseRecord
from pytest_imagebuild.plan.context import read_source
from pytest_imagebuild.plan.dockerfiles import loaded
from pytest_imagebuild.plan.places import SOURCE_ROOT
from pytest_imagebuild.plan.plan import Plan, PlannedLayer, local_python

__all__ = ["dockerfile_of"]

_HEAD = """\
# The image's chain as `imagebuild export --dockerfile` says it. Build it in the folder where that was run:
#     docker build -f Dockerfile .
# Bases are pinned where imagebuild.lock has their digest; versions of packages are looked up anew."""
_ESCAPE = re.compile(r"(?:#[^\n]*\n)*#\s*escape\s*=", re.IGNORECASE)
_SHELL = ("/bin/sh", "-c")
_UNPINNED = {
    "bootstrap": "# imagebuild made this base from Debian's packages; the one of the registry may differ",
    "local": "# imagebuild took the engine's own image of this name",
}
# As `add_python` does it, see build/installs/standalone.py.
_PYTHON = """\
RUN UV_PYTHON_DOWNLOADS=manual /.uv/uv python install --no-bin --install-dir /tmp/python cpython-{version} \\
 && cd /tmp/python/cpython-{number}* && rm -f BUILD lib/python3*/EXTERNALLY-MANAGED \\
 && (grep -rlIF "$PWD" . | while read -r file; do sed -i "s|$PWD|/usr/local|g" "$file"; done) \\
 && mkdir -p /usr/local && cp -a . /usr/local/ && cd / && rm -rf /tmp/python"""


def dockerfile_of(plan: Plan, bases: Mapping[str, BaseRecord], context: Path) -> str:
    """Return the Dockerfile of a plan.

    `bases` are the lockfile's records of one platform by their reference, `context` is the absolute path of the folder
    that will be the build context. Raises DefinitionError, at the user's line, for what no Dockerfile can say.
    """
    lowering = _Lowering(plan.builder, bases, context)
    blocks = [_HEAD]
    for step, layers in _by_step(plan):
        lines = [line for layer, spec in layers for line in lowering.layer(layer, spec)]
        needs = dict.fromkeys(line for layer, _ in layers for line in _needs(layer))
        blocks.append("\n".join([f"# {step.describe()}", *needs, *lines]))
    for source in plan.image.local_sources:
        copies = lowering.copies(source, read_source(source))
        blocks.append("\n".join([f"# {source.describe()}: imagebuild does it when a container starts", *copies]))
    return "\n\n".join(blocks) + "\n"


def _by_step(plan: Plan) -> Iterator[tuple[Step, list[tuple[PlannedLayer, LayerSpec]]]]:
    """Yield each step with its layers, and what it asked for."""
    planned = iter(plan.layers)
    for step in map(loaded, plan.image.steps):
        yield step, [(next(planned), spec) for spec in step.layers(plan.builder, local_python())]


class _Lowering:
    """Knows what earlier layers have set."""

    def __init__(self, builder: Builder, bases: Mapping[str, BaseRecord], context: Path) -> None:
        self._builder = builder
        self._bases = bases
        self._context = context
        self._shell: tuple[str, ...] | None = None

    def layer(self, layer: PlannedLayer, spec: LayerSpec) -> Iterator[str]:
        """Yield the lines of a layer; `spec` is what its step asked for."""
        if layer.base is not None:
            yield from self._from(layer.base, layer.where)
        if spec.dockerfile is not None:
            yield from self._verbatim(spec.dockerfile, layer)
        for asked, item in zip(spec.instructions, layer.instructions, strict=True):
            # Once it is read, it installs from a file that no folder has.
            yield from self._instruction(asked if isinstance(asked, PrivateRepositories) else item, layer)

    def copies(self, source: LocalSource, files: Sequence[FileEntry]) -> Iterator[str]:
        """Yield the lines that copy what a chain call adds; `files` is what was found."""
        match source:
            case LocalFile():
                yield self._copy(source.local_path, source.remote_path, source.where)
            case LocalDir():
                folder = self._inside(source.local_path, source.where)
                yield from _left_out(source.ignore, folder)
                yield self._copy(source.local_path, f"{source.remote_path.rstrip('/')}/", source.where)
            case LocalPythonSource():
                for local, remote in _modules(source, files).items():
                    if remote.endswith("/"):
                        yield from _left_out(source.ignore, self._inside(str(local), source.where))
                    yield self._copy(str(local), remote, source.where)

    def _instruction(self, item: Instruction, layer: PlannedLayer) -> Iterator[str]:
        match item:
            case _ if isinstance(item, Install):
                yield from self._install(item, layer)
            case Run():
                yield self._run(item.command, layer)
            case CopyLocal():
                yield from self.copies(item.source, layer.files)
            case PrivateRepositories():
                yield from (self._run(line.removeprefix("RUN "), layer) for line in item.lines(self._builder))
            case AddPython():
                yield f"COPY --from=ghcr.io/astral-sh/uv:{self._builder.uv_version} /uv /.uv/uv"
                yield _PYTHON.format(version=item.version, number=item.version.removesuffix("t"))
            case SetEnv():
                yield from _environment(item, self._builder, layer.where)
            case SetShell():
                self._shell = item.argv
                yield from item.lines(self._builder)
            case SetWorkdir() | SetCommand() | SetEntrypoint() | PrependPath():
                yield from item.lines(self._builder)
            case _:
                raise DefinitionError(
                    f"{layer.title} cannot be said in a Dockerfile. Export the built image: `imagebuild export --oci`.",
                    where=layer.where,
                )

    def _from(self, base: str, where: SourceLocation | None) -> Iterator[str]:
        name = published_name(base)
        if name is not None:
            raise DefinitionError(
                f"from_name: {name!r} names an image of this machine, which no other builder finds. Export the built "
                "image: `imagebuild export --oci`.",
                where=where,
            )
        record = self._bases.get(base)
        if record is not None and record.source in _UNPINNED:
            yield _UNPINNED[record.source]
        pinned = record is not None and record.source == "registry" and "@" not in base
        yield f"FROM {base}@{record.digest}" if record and pinned else f"FROM {base}"

    def _verbatim(self, lines: DockerfileLines, layer: PlannedLayer) -> Iterator[str]:
        folder = Path(os.path.normpath(Path(lines.context.directory or ".").expanduser().absolute()))
        if lines.context.files or (layer.files and folder != self._context):
            raise DefinitionError(
                f"{layer.title} copies files of a build context of its own ({folder}), and a Dockerfile has one "
                "context, which will be this folder. Export the built image: `imagebuild export --oci`.",
                where=layer.where,
            )
        if _ESCAPE.match(lines.text):
            raise DefinitionError(
                f"{layer.title} sets the escape character of a whole Dockerfile, and these lines become a part of one. "
                "Export the built image: `imagebuild export --oci`.",
                where=layer.where,
            )
        if lines.build_args:
            options = " ".join(f"--build-arg {name}={shlex.quote(value)}" for name, value in lines.build_args)
            yield f"# Needs: docker build {options}"
        yield from lines.text.rstrip("\n").split("\n")

    def _run(self, command: str, layer: PlannedLayer) -> str:
        """Return the `RUN` of one command of a layer: the one place where such a line is made of a text."""
        shell = self._shell or _SHELL
        start = " ".join(["RUN", *_mounts(layer)])
        variables = layer.environment
        if self._shell is not None and variables:
            words = ["env", *(f"{name}={value}" for name, value in variables), *shell, command]
            return f"{start} {_words(words)}"
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables)
        text = f"export {exports} && {command}" if exports else command
        return f"{start} {text}" if _is_plain(text) else f"{start} {_words([*shell, text])}"

    def _install(self, install: Install, layer: PlannedLayer) -> Iterator[str]:
        copied = False
        run: list[str] = []
        for given in install.lines(self._builder):
            line = without_credentials(given)
            if line != given:
                yield "# The password of an index is left out: give it with a build secret or a netrc file"
            if line.startswith("COPY /"):
                if not copied:
                    yield from (self._copy(str(tool.source), tool.path, layer.where) for tool in layer.tools)
                copied = True
            elif line.startswith("COPY "):
                yield line
            else:
                run.append(line.removeprefix("RUN ").rstrip("\\ ").strip())
                if not line.endswith("\\ "):
                    yield self._run(" ".join(run), layer)
                    run = []

    def _copy(self, local: str, remote: str, where: SourceLocation | None) -> str:
        source = re.sub(r"([*?[])", r"[\1]", self._inside(local, where))
        # Variables are replaced in both.
        return f"COPY {_words([text.replace('$', chr(92) + '$') for text in (source, remote)])}"

    def _inside(self, local: str, where: SourceLocation | None) -> str:
        """Return a local path relative to the build context."""
        path = Path(os.path.normpath(Path(local).expanduser().absolute()))
        try:
            return path.relative_to(self._context).as_posix()
        except ValueError:
            raise DefinitionError(
                f"{local} is outside of this folder, which will be the build context, and no Dockerfile can copy what "
                "is outside of that. Run `imagebuild export` in a folder above both.",
                where=where,
            ) from None


def _mounts(layer: PlannedLayer) -> Iterator[str]:
    """Yield what BuildKit mounts for a `RUN`: secrets as variables, volumes as caches that it keeps."""
    own = dict(layer.environment)
    for name in dict.fromkeys(name for secret in layer.secrets for name in secret.names):
        if name not in own:
            yield f"--mount=type=secret,id={name},env={name}"
    for path, volume in layer.volumes:
        kind = "type=tmpfs" if volume.is_ephemeral else f"type=cache,id={volume.name}"
        yield f"--mount={kind},target={path}{',readonly' if volume.is_read_only else ''}"


def _needs(layer: PlannedLayer) -> Iterator[str]:
    """Yield comments that say what a build needs for the mounts of a layer."""
    if layer.secrets:
        names = dict.fromkeys(name for secret in layer.secrets for name in secret.names)
        options = " ".join(f"--secret id={name}" for name in names) or "--secret id=NAME"
        yield f"# Needs BuildKit with Dockerfile syntax 1.10 or newer, and: docker build {options}"
    if layer.gpu:
        yield "# imagebuild gives this step a GPU, for which a Dockerfile has no word: build where every step has one"
    unknown = [secret.origin for secret in layer.secrets if not secret.names]
    if unknown:
        yield "# The names of some variables are not known before their source is read: add a --mount for each of them"


def _environment(item: SetEnv, builder: Builder, where: SourceLocation | None) -> Sequence[str]:
    broken = next((name for name, value in item.variables if "\n" in value or "\r" in value), None)
    if broken is not None:
        raise DefinitionError(
            f"env: the value of {broken!r} has a line break, which no ENV of a Dockerfile can hold. Export the built "
            "image: `imagebuild export --oci`.",
            where=where,
        )
    return item.lines(builder)


def _is_plain(command: str) -> bool:
    """Say whether a builder takes a command for what it is, behind `RUN`."""
    if not command.strip() or "\n" in command or "\r" in command or command.rstrip().endswith("\\"):
        return False
    # Flags, the JSON form, comments and here-documents of Dockerfiles begin so.
    return not command.lstrip().startswith(("--", "[", "#")) and "<<" not in command


def _words(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _left_out(ignore: Ignore, folder: str) -> Iterator[str]:
    """Yield comments that say what a `.dockerignore` file must leave out for a folder."""
    if isinstance(ignore, FilePatternMatcher) and not ignore.inverted and ignore.file is None:
        if ignore.patterns:
            yield "# Without these, which are to be lines of a .dockerignore file:"
        prefix = "" if folder == "." else f"{folder}/"
        for pattern in ignore.patterns:
            again, name = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
            yield f"#     {again}{prefix}{name.strip().lstrip('/')}"
    else:
        yield "# Without what ignore= leaves out, which has to be named in a .dockerignore file"


def _modules(source: LocalPythonSource, files: Sequence[FileEntry]) -> dict[Path, str]:
    """Return where the files or folders of modules are here, and where they go; folders end with "/" there."""
    found: dict[Path, str] = {}
    for module in source.modules:
        folder = f"{SOURCE_ROOT}/{module.replace('.', '/')}/"
        for entry in files:
            if entry.source is None:
                continue
            if entry.path.startswith(folder):
                depth = entry.path.removeprefix(folder).count("/")
                found[entry.source.parents[depth]] = folder
            elif entry.path.rpartition(".")[0] == folder.rstrip("/"):
                found[entry.source] = entry.path
    return found

"""What installs packages: frozen values, each with the Dockerfile lines that say the same."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass, field

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.canonical import INLINE

__all__ = [
    "REQUIREMENTS",
    "AptInstall",
    "MicromambaInstall",
    "PipInstall",
    "PipInstallProject",
    "PipOptions",
    "PoetryInstall",
    "PrivateRepositories",
    "UvPipInstall",
    "UvSync",
    "token_of",
]

REQUIREMENTS = "/.requirements.txt"
"""Where the file of `pip_install_from_requirements` is while pip runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstall:
    """Install Debian packages, in the order given."""

    packages: tuple[str, ...]

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `RUN` that updates the index and one that installs."""
        return ("RUN apt-get update", f"RUN apt-get install -y {shlex.join(self.packages)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PipOptions:
    """How pip and uv look for packages. `extra_options` is shell text, taken as it is."""

    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""

    def index_flags(self) -> list[str]:
        """Give the options that say where packages are looked for, as shell text."""
        flags = {
            "--find-links": self.find_links,
            "--index-url": self.index_url,
            "--extra-index-url": self.extra_index_url,
        }
        return [f"{flag} {shlex.quote(value)}" for flag, value in flags.items() if value is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstall:
    """Install Python packages with the image's pip.

    `packages` come in the order of the command; `executable` is the shell text that starts pip. `requirements` is at
    most one local file, by the path that the user gave.
    """

    packages: tuple[str, ...]
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    upgrade: bool = False
    executable: str = "python -m pip"
    requirements: tuple[str, ...] = ()

    def remote_requirements(self) -> tuple[str, ...]:
        """Give the paths in the container of `requirements`, in their order."""
        return tuple(REQUIREMENTS for _ in self.requirements)

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN`."""
        options = " ".join(self.options.index_flags())
        if self.options.pre:
            # Two spaces when it comes first: the reference emits them, and its golden lists hold them.
            options += " --pre"
        if self.options.extra_options:
            options += f" {self.options.extra_options}" if options else self.options.extra_options
        verb = "install --upgrade" if self.upgrade else "install"
        if self.requirements:
            # The reference says where to find links twice, once as it is.
            twice = f" -f {self.options.find_links}" if self.options.find_links is not None else ""
            run = f"RUN {self.executable} {verb} -r {REQUIREMENTS}{twice} {options}"
            return (f"COPY {REQUIREMENTS} {REQUIREMENTS}", run.strip())
        return (f"RUN {self.executable} {verb} {shlex.join(self.packages)} {options}".strip(),)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstall:
    """Install Python packages with uv into the image's Python.

    `requirements` are local files, by the paths that the user gave. `uv_version` None means the one that the
    builder version pins (the reference takes the latest).
    """

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    uv_version: str | None = None

    def remote_requirements(self) -> tuple[str, ...]:
        """Give the paths in the container of `requirements`, in their order; equal base names do not collide."""
        names = (posixpath.basename(path.replace("\\", "/")) for path in self.requirements)
        return tuple(f"/.uv/{position}/{name}" for position, name in enumerate(names))

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give a `COPY` of uv, one for each requirements file, and the `RUN`."""
        uv = self.uv_version or builder.uv_version
        remote = self.remote_requirements()
        arguments = ["--python $(command -v python)", "--compile-bytecode", *self.options.index_flags()]
        if self.options.pre:
            arguments.append("--prerelease allow")
        if self.options.extra_options:
            arguments.append(self.options.extra_options)
        arguments += [f"--requirements {shlex.quote(path)}" for path in remote]
        arguments += [shlex.quote(package) for package in self.packages]
        return (
            f"COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /.uv/uv",
            *(f"COPY /.{position}_{posixpath.basename(path)} {path}" for position, path in enumerate(remote)),
            f"RUN /.uv/uv pip install {' '.join(arguments)}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstallProject:
    """Install what a local `pyproject.toml` depends on; `extras` are groups of its optional dependencies.

    It becomes a `PipInstall` once the file is read.
    """

    pyproject: str
    extras: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def of(self, packages: tuple[str, ...]) -> PipInstall:
        """Give the installation of what was read."""
        return PipInstall(
            packages=tuple(sorted(packages)),
            options=self.options,
        )

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give the `RUN`, with the file in the place of what it asks for."""
        return self.of((f"# {self.pyproject}",)).lines(builder)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateRepositories:
    """Install Python packages out of private git repositories ("github.com/owner/name"), as `git_user`.

    The tokens are in the variables `GITHUB_TOKEN` and `GITLAB_TOKEN`. It becomes a `PipInstall` of a requirements file,
    in which pip itself replaces variables.
    """

    repositories: tuple[str, ...]
    git_user: str
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def requirements(self) -> str:
        """Give the text of the requirements file."""
        wanted = (f"git+https://{self.git_user}:${{{token_of(item)}}}@{item}\n" for item in self.repositories)
        return "".join(wanted)

    def install(self) -> PipInstall:
        """Give the installation of that file."""
        return PipInstall(
            packages=(),
            requirements=(REQUIREMENTS,),
            options=self.options,
            executable="python3 -m pip",
        )

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give one `RUN` for each repository."""
        options = [*self.options.index_flags(), *(["--pre"] if self.options.pre else []), self.options.extra_options]
        flags = " ".join(filter(None, options))
        commands = (
            f'RUN python3 -m pip install "git+https://{self.git_user}:${token_of(item)}@{item}" {flags}'
            for item in self.repositories
        )
        return tuple(command.rstrip() for command in commands)


def token_of(repository: str) -> str:
    """Give the name of the variable that holds the token for a repository."""
    return "GITLAB_TOKEN" if repository.startswith("gitlab.com/") else "GITHUB_TOKEN"


@dataclass(frozen=True, kw_only=True, slots=True)
class UvSync:
    """Install what a local uv project depends on into `/.uv/.venv`, but not the project itself.

    `project_dir` is the folder as the user gave it. `locked` says that it has a `uv.lock`, which is known once it is
    read. `uv_version` None means the one that the builder version pins.
    """

    project_dir: str
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    frozen: bool = True
    extra_options: str = ""
    uv_version: str | None = None
    locked: bool = False

    @property
    def is_open(self) -> bool:
        """Say whether uv has to look for versions."""
        return not (self.frozen and self.locked)

    def options(self) -> str:
        """Give what is chosen of the project, as shell text."""
        chosen = [f"--group={shlex.quote(name)}" for name in self.groups]
        chosen += [f"--extra={shlex.quote(name)}" for name in self.extras]
        return " ".join([*chosen, *([self.extra_options] if self.extra_options else [])])

    def command(self) -> str:
        """Give the command that installs what the project's own lockfile pins."""
        parts = ["/.uv/uv sync --project=/.uv --no-install-workspace --compile-bytecode", self.options()]
        return " ".join([*filter(None, parts), *([] if self.is_open else ["--frozen"])])

    def lines(self, builder: Builder) -> tuple[str, ...]:
        """Give a `COPY` of uv and of each file of the project, and the `RUN`."""
        uv = self.uv_version or builder.uv_version
        return (
            f"COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /.uv/uv",
            "COPY /.pyproject.toml /.uv/pyproject.toml",
            *(["COPY /.uv.lock /.uv/uv.lock"] if self.locked else []),
            f"RUN {self.command()}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PoetryInstall:
    """Install what a local Poetry project depends on into the image's Python, but not the project itself.

    Paths are as the user gave them; without `lockfile`, the `poetry.lock` beside the project's file is taken.
    `old_installer` switches Poetry's installer of before 1.1 on, which is gone since 2.0. `indexes` are the addresses
    of the package indexes that the project names, which are known once it is read.
    """

    pyproject: str
    lockfile: str | None = None
    ignore_lockfile: bool = False
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    old_installer: bool = False
    indexes: tuple[str, ...] = ()

    def options(self) -> str:
        """Give what is chosen of the project, as shell text."""
        groups = {"--with": self.with_, "--without": self.without, "--only": self.only}
        return " ".join(f"{flag} {shlex.quote(','.join(names))}" for flag, names in groups.items() if names)

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `COPY` of each file of the project, and the `RUN`."""
        chosen = f" {self.options()}" if self.options() else ""
        return (
            *(["RUN poetry config experimental.new-installer false"] if self.old_installer else []),
            *([] if self.ignore_lockfile else ["COPY /.poetry.lock /tmp/poetry/poetry.lock"]),
            "COPY /.pyproject.toml /tmp/poetry/pyproject.toml",
            "RUN cd /tmp/poetry && \\ ",
            "  poetry config virtualenvs.create false && \\ ",
            f"  poetry install --no-root{chosen} --compile",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaInstall:
    """Install conda packages with the image's micromamba; packages and channels come in the order given.

    `spec_file` is a local file, by the path that the user gave; `specs` are the packages that it names, which are known
    once it is read. `root` asks for the root environment whichever is active, with the words of `Image.micromamba`.
    """

    packages: tuple[str, ...] = ()
    spec_file: str | None = None
    channels: tuple[str, ...] = ()
    root: bool = False
    specs: tuple[str, ...] = ()

    def remote_spec_file(self) -> str | None:
        """Give the path in the container of `spec_file`."""
        return None if self.spec_file is None else f"/{posixpath.basename(self.spec_file.replace(chr(92), '/'))}"

    def arguments(self) -> str:
        """Give what is asked for, as shell text."""
        words = [shlex.quote(package) for package in self.packages]
        spec_file = self.remote_spec_file()
        words += [f"-f {shlex.quote(spec_file)} -n base"] if spec_file else []
        return " ".join([*words, *(f"-c {shlex.quote(channel)}" for channel in self.channels)])

    def lines(self, builder: Builder) -> tuple[str, ...]:  # noqa: ARG002 - one signature for every instruction
        """Give a `COPY` of the spec file, if any, and the `RUN`."""
        if self.root:
            return (f"RUN micromamba install -n base -y {self.arguments()}",)
        spec_file = self.remote_spec_file()
        copy = [f"COPY {spec_file} {spec_file}"] if spec_file else []
        return (*copy, f"RUN micromamba install {self.arguments()} --yes")

"""The calls that install packages."""
# ruff: noqa: D102 - `Step` says what the methods of all steps give

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_imagebuild.image.builder import Builder
from pytest_imagebuild.image.canonical import INLINE
from pytest_imagebuild.image.instructions import (
    AptInstall,
    Instruction,
    MicromambaInstall,
    PipInstall,
    PipInstallProject,
    PoetryInstall,
    PrependPath,
    PrivateRepositories,
    Run,
    UvPipInstall,
    UvSync,
)
from pytest_imagebuild.image.packages import PipOptions, token_of
from pytest_imagebuild.image.step import LayerSpec, Step
from pytest_imagebuild.image.wording import call_text, listed, quoted, without_channel_logins, without_credentials

__all__ = [
    "AptInstallStep",
    "MicromambaInstallStep",
    "PipInstallStep",
    "PoetryInstallStep",
    "PrivateReposStep",
    "PyprojectStep",
    "RequirementsStep",
    "UvPipInstallStep",
    "UvSyncStep",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class AptInstallStep(Step):
    """`Image.apt_install`: Debian packages in the order given."""

    packages: tuple[str, ...]

    def describe(self) -> str:
        return call_text("apt_install", list(map(quoted, self.packages)))

    def instructions(self) -> tuple[Instruction, ...]:
        return (AptInstall(packages=self.packages),)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipInstallStep(Step):
    """`Image.pip_install`: packages in the order given; the layer has them sorted."""

    packages: tuple[str, ...]
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        packages = (quoted(without_credentials(package)) for package in self.packages)
        return call_text("pip_install", [*packages, *(["pre=True"] if self.options.pre else [])])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstall(
            packages=tuple(sorted(self.packages)),
            options=self.options,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvPipInstallStep(Step):
    """`Image.uv_pip_install`: packages in the order given, requirement files by their local paths."""

    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)
    uv_version: str | None = None

    def describe(self) -> str:
        # Index addresses stay out: they may hold a password.
        arguments = [quoted(without_credentials(package)) for package in self.packages]
        if self.requirements:
            arguments.append(f"requirements=[{', '.join(map(quoted, self.requirements))}]")
        if self.options.pre:
            arguments.append("pre=True")
        return call_text("uv_pip_install", arguments)

    def instructions(self) -> tuple[Instruction, ...]:
        install = UvPipInstall(
            packages=tuple(sorted(self.packages)),
            requirements=self.requirements,
            options=self.options,
            uv_version=self.uv_version,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementsStep(Step):
    """`Image.pip_install_from_requirements`: a requirements file by its local path."""

    requirements_txt: str
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        return call_text("pip_install_from_requirements", [quoted(self.requirements_txt)])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstall(
            packages=(),
            requirements=(self.requirements_txt,),
            options=self.options,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class PyprojectStep(Step):
    """`Image.pip_install_from_pyproject`: a project's file by its local path, and groups of optional dependencies."""

    pyproject_toml: str
    optional_dependencies: tuple[str, ...] = ()
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        groups = [listed(self.optional_dependencies)] if self.optional_dependencies else []
        return call_text("pip_install_from_pyproject", [quoted(self.pyproject_toml), *groups])

    def instructions(self) -> tuple[Instruction, ...]:
        install = PipInstallProject(
            pyproject=self.pyproject_toml,
            extras=self.optional_dependencies,
            options=self.options,
        )
        return (install,)


@dataclass(frozen=True, kw_only=True, slots=True)
class UvSyncStep(Step):
    """`Image.uv_sync`: a uv project by its local folder."""

    project_dir: str
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    frozen: bool = True
    extra_options: str = ""
    uv_version: str | None = None

    def describe(self) -> str:
        chosen = [f"groups={listed(self.groups)}"] if self.groups else []
        chosen += [f"extras={listed(self.extras)}"] if self.extras else []
        return call_text("uv_sync", [quoted(self.project_dir), *chosen])

    def instructions(self) -> tuple[Instruction, ...]:
        sync = UvSync(
            project_dir=self.project_dir,
            groups=self.groups,
            extras=self.extras,
            frozen=self.frozen,
            extra_options=self.extra_options,
            uv_version=self.uv_version,
        )
        return (sync, PrependPath(folder="/.uv/.venv/bin"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PoetryInstallStep(Step):
    """`Image.poetry_install_from_file`: a Poetry project by its files.

    `poetry_version` is "latest", a version, or None for the Poetry that the image has.
    """

    pyproject: str
    lockfile: str | None = None
    ignore_lockfile: bool = False
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    poetry_version: str | None = "latest"
    old_installer: bool = False

    def describe(self) -> str:
        groups = {"with_": self.with_, "without": self.without, "only": self.only}
        chosen = [f"{name}={listed(names)}" for name, names in groups.items() if names]
        return call_text("poetry_install_from_file", [quoted(self.pyproject), *chosen])

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - the same for all
        install = PoetryInstall(
            pyproject=self.pyproject,
            lockfile=self.lockfile,
            ignore_lockfile=self.ignore_lockfile,
            with_=self.with_,
            without=self.without,
            only=self.only,
            old_installer=self.old_installer,
        )
        project = LayerSpec(instructions=(install,))
        if self.poetry_version is None:
            return (project,)
        version = "" if self.poetry_version == "latest" else f"=={self.poetry_version}"
        return (LayerSpec(instructions=(PipInstall(packages=(f"poetry{version}",)),)), project)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateReposStep(Step):
    """`Image.pip_install_private_repos`: repositories in the order given, and the user that the tokens belong to."""

    repositories: tuple[str, ...]
    git_user: str
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    def describe(self) -> str:
        return call_text("pip_install_private_repos", list(map(quoted, self.repositories)))

    def layers(self, builder: Builder, local_python: str) -> tuple[LayerSpec, ...]:  # noqa: ARG002 - the same for all
        names = dict.fromkeys(token_of(item) for item in self.repositories)
        checks = (
            f"bash -c \"[[ -v {name} ]] || (echo '{name} is not among the secrets' && exit 1)\"" for name in names
        )
        install = PrivateRepositories(
            repositories=tuple(sorted(self.repositories)),
            git_user=self.git_user,
            options=self.options,
        )
        return (
            LayerSpec(instructions=(*(Run(command=check) for check in checks), AptInstall(packages=("git",)))),
            LayerSpec(instructions=(install,)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MicromambaInstallStep(Step):
    """`Image.micromamba_install`: conda packages and channels in the order given, a spec file by its local path."""

    packages: tuple[str, ...] = ()
    spec_file: str | None = None
    channels: tuple[str, ...] = ()

    def describe(self) -> str:
        arguments = [quoted(without_channel_logins(package)) for package in self.packages]
        if self.spec_file is not None:
            arguments.append(f"spec_file={quoted(self.spec_file)}")
        if self.channels:
            arguments.append(f"channels={listed(map(without_channel_logins, self.channels))}")
        return call_text("micromamba_install", arguments)

    def instructions(self) -> tuple[Instruction, ...]:
        return (MicromambaInstall(packages=self.packages, spec_file=self.spec_file, channels=self.channels),)

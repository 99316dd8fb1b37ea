"""Python packages out of private repositories."""
# ruff: noqa: D102 - `Step` and `BaseInstruction` say what the methods of all give

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_imagebuild.image.canonical import INLINE
from pytest_imagebuild.image.step import BaseInstruction, LayerSpec, Step
from pytest_imagebuild.image.steps.apt import AptInstall
from pytest_imagebuild.image.steps.commands import Run
from pytest_imagebuild.image.steps.pip import REQUIREMENTS, PipInstall
from pytest_imagebuild.image.steps.pip_options import PipOptions
from pytest_imagebuild.image.wording import call_text, quoted

if TYPE_CHECKING:
    from pytest_imagebuild.image.builder import Builder

__all__ = ["PrivateReposStep", "PrivateRepositories"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateRepositories(BaseInstruction):
    """Install Python packages out of private git repositories ("github.com/owner/name"), as `git_user`.

    The tokens are in the variables `GITHUB_TOKEN` and `GITLAB_TOKEN`. It becomes a `PipInstall` of a requirements file,
    in which pip itself replaces variables.
    """

    repositories: tuple[str, ...]
    git_user: str
    options: PipOptions = field(default=PipOptions(), metadata=INLINE)

    @property
    def names_files(self) -> bool:
        return True

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


def token_of(repository: str) -> str:
    """Give the name of the variable that holds the token for a repository."""
    return "GITLAB_TOKEN" if repository.startswith("gitlab.com/") else "GITHUB_TOKEN"

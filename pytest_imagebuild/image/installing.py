"""The links of a chain that install packages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.recipe import Recipe, on_recipe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_imagebuild.image.secret import Secret

__all__ = ["Installing"]


class Installing(Recipe):
    """Steps that install packages, each a layer that the lockfile pins."""

    __slots__ = ()

    @on_recipe
    def apt_install(
        self,
        *packages: str | list[str],
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install Debian packages. Without any, give the image itself."""
        from pytest_imagebuild.image.steps.apt import AptInstallStep  # noqa: PLC0415 - each call loads its own kind

        call = ChainCall("apt_install")
        step = AptInstallStep(
            packages=call.strings("packages", packages),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step) if step.packages else self

    @on_recipe
    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install Python packages with pip. Without any, give the image itself.

        `extra_options` is shell text, put into the command as it is.
        """
        from pytest_imagebuild.image.steps.pip import PipInstallStep  # noqa: PLC0415

        call = ChainCall("pip_install")
        step = PipInstallStep(
            packages=call.packages(packages),
            options=call.pip_options(find_links, index_url, extra_index_url, pre, extra_options),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step) if step.packages else self

    @on_recipe
    def uv_pip_install(
        self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install Python packages with uv. Without any, and without `requirements`, give the image itself.

        `requirements` are local requirements files, read when the image is built. `uv_version` replaces the uv
        that the builder version pins.
        """
        from pytest_imagebuild.image.steps.uv_pip import UvPipInstallStep  # noqa: PLC0415

        call = ChainCall("uv_pip_install")
        step = UvPipInstallStep(
            packages=call.packages(packages),
            requirements=call.names("requirements", requirements),
            options=call.pip_options(find_links, index_url, extra_index_url, pre, extra_options),
            uv_version=call.optional_text("uv_version", uv_version),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step) if step.packages or step.requirements else self

    @on_recipe
    def pip_install_from_requirements(
        self,
        requirements_txt: str | Path,
        find_links: str | None = None,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install what a local requirements file asks for, with pip. The file is read when the image is built."""
        from pytest_imagebuild.image.steps.pip import RequirementsStep  # noqa: PLC0415

        call = ChainCall("pip_install_from_requirements")
        step = RequirementsStep(
            requirements_txt=call.path("requirements_txt", requirements_txt),
            options=call.pip_options(find_links, index_url, extra_index_url, pre, extra_options),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step)

    @on_recipe
    def pip_install_from_pyproject(
        self,
        pyproject_toml: str | Path,
        optional_dependencies: list[str] = [],  # noqa: B006 - the reference's default; it is only read
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install the dependencies of a local `pyproject.toml`, with pip, but not the project itself.

        `optional_dependencies` are groups of its `[project.optional-dependencies]`. The file is read when the image is
        built.
        """
        from pytest_imagebuild.image.steps.pyproject import PyprojectStep  # noqa: PLC0415

        call = ChainCall("pip_install_from_pyproject")
        step = PyprojectStep(
            pyproject_toml=call.path("pyproject_toml", pyproject_toml),
            optional_dependencies=call.names("optional_dependencies", optional_dependencies),
            options=call.pip_options(find_links, index_url, extra_index_url, pre, extra_options),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step)

    @on_recipe
    def uv_sync(
        self,
        uv_project_dir: str | Path = "./",
        *,
        force_build: bool = False,
        groups: list[str] | None = None,
        extras: list[str] | None = None,
        frozen: bool = True,
        extra_options: str = "",
        uv_version: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install the dependencies of a local uv project into `/.uv/.venv`, which comes first on PATH.

        The project itself is not installed: add its sources with `add_local_python_source`. A `uv.lock` beside its
        `pyproject.toml` decides, unless `frozen=False`; without it, the lockfile of the images pins what uv chose.
        """
        from pytest_imagebuild.image.steps.uv_sync import UvSyncStep  # noqa: PLC0415

        call = ChainCall("uv_sync")
        step = UvSyncStep(
            project_dir=call.path("uv_project_dir", uv_project_dir),
            groups=call.names("groups", groups),
            extras=call.names("extras", extras),
            frozen=bool(frozen),
            extra_options=call.text("extra_options", extra_options),
            uv_version=call.optional_text("uv_version", uv_version),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step)

    @on_recipe
    def poetry_install_from_file(
        self,
        poetry_pyproject_toml: str | Path,
        poetry_lockfile: str | Path | None = None,
        *,
        ignore_lockfile: bool = False,
        force_build: bool = False,
        with_: list[str] = [],  # noqa: B006 - the reference's default; it is only read
        without: list[str] = [],  # noqa: B006 - as above
        only: list[str] = [],  # noqa: B006 - as above
        poetry_version: str | None = "latest",
        old_installer: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install the dependencies of a local Poetry project into the image's Python, but not the project itself.

        The `poetry.lock` beside the project's file decides, or `poetry_lockfile`; with `ignore_lockfile=True`, the
        lockfile of the images pins what Poetry chose. `with_`, `without` and `only` name dependency groups.
        `poetry_version=None` uses the Poetry that the image has.
        """
        from pytest_imagebuild.image.steps.poetry import PoetryInstallStep  # noqa: PLC0415

        call = ChainCall("poetry_install_from_file")
        lockfile = None if poetry_lockfile is None else call.path("poetry_lockfile", poetry_lockfile)
        step = PoetryInstallStep(
            pyproject=call.path("poetry_pyproject_toml", poetry_pyproject_toml),
            lockfile=lockfile,
            ignore_lockfile=bool(ignore_lockfile),
            with_=call.names("with_", with_),
            without=call.names("without", without),
            only=call.names("only", only),
            poetry_version=call.version("poetry_version", poetry_version),
            old_installer=bool(old_installer),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step)

    @on_recipe
    def pip_install_private_repos(
        self,
        *repositories: str,
        git_user: str,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        gpu: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        force_build: bool = False,
    ) -> Self:
        """Install Python packages out of private repositories: "github.com/owner/name", "gitlab.com/owner/name@v1".

        `secrets` must give `GITHUB_TOKEN` or `GITLAB_TOKEN`, whichever the repositories need. Without any repository,
        give the image itself.
        """
        from pytest_imagebuild.image.steps.private_repos import PrivateReposStep  # noqa: PLC0415

        call = ChainCall("pip_install_private_repos")
        step = PrivateReposStep(
            repositories=call.repositories(repositories),
            git_user=call.git_user(git_user),
            options=call.pip_options(find_links, index_url, extra_index_url, pre, extra_options),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        if not step.secrets:
            message = (
                "no secrets are given, and private repositories need a token. Pass secrets=[Secret.from_name(...)] "
                "with GITHUB_TOKEN or GITLAB_TOKEN; env= would leave it in keys."
            )
            raise call.error(message)
        return self._then(step) if step.repositories else self

    @on_recipe
    def micromamba_install(
        self,
        *packages: str | list[str],
        spec_file: str | Path | None = None,
        channels: list[str] = [],  # noqa: B006 - the reference's default; it is only read
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | None = None,
    ) -> Self:
        """Install conda packages with micromamba. Without any, and without `spec_file`, give the image itself.

        `spec_file` is a local file as `micromamba install --file` takes it, read when the image is built. `channels`
        are asked in their order.
        """
        from pytest_imagebuild.image.steps.conda import MicromambaInstallStep  # noqa: PLC0415

        call = ChainCall("micromamba_install")
        step = MicromambaInstallStep(
            packages=call.strings("packages", packages),
            spec_file=None if spec_file is None else call.path("spec_file", spec_file),
            channels=call.names("channels", channels),
            **call.layer_options(force_build=force_build, env=env, secrets=secrets, gpu=gpu),
        )
        return self._then(step) if step.packages or step.spec_file else self

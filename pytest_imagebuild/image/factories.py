"""What a chain begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_imagebuild.image.calls import ChainCall
from pytest_imagebuild.image.names import image_name
from pytest_imagebuild.image.recipe import Recipe

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_imagebuild.image.secret import RegistrySecret, RegistryService, Secret

__all__ = ["Factories"]

_SERVICES: dict[str, RegistryService] = {"from_aws_ecr": "aws", "from_gcp_artifact_registry": "gcp"}


class Factories(Recipe):
    """Static factory methods: each gives the first link of a chain."""

    __slots__ = ()

    @classmethod
    def debian_slim(cls, python_version: str | None = None, force_build: bool = False) -> Self:
        """Start from Debian with Python and basic build tools.

        `python_version` is a series ("3.13") or a full version ("3.13.2"); without it, the series of the Python that
        runs pytest. Whether the builder version offers it is checked when the image is built.
        """
        from pytest_imagebuild.image.steps.debian import DebianSlimStep  # noqa: PLC0415 - each call loads its own kind

        call = ChainCall("debian_slim")
        version = call.python_version(python_version)
        return cls._make((DebianSlimStep(python_version=version, force=bool(force_build), where=call.where),))

    @classmethod
    def micromamba(cls, python_version: str | None = None, force_build: bool = False) -> Self:
        """Start from Debian with micromamba and a Python of conda-forge, in an environment that is always active.

        `python_version` is a series ("3.13") or a full version ("3.13.2"); without it, the series of the Python that
        runs pytest. Whether the builder version offers it is checked when the image is built.
        """
        from pytest_imagebuild.image.steps.micromamba import MicromambaStep  # noqa: PLC0415

        call = ChainCall("micromamba")
        version = call.python_version(python_version)
        return cls._make((MicromambaStep(python_version=version, force=bool(force_build), where=call.where),))

    @classmethod
    def from_scratch(cls, force_build: bool = False) -> Self:
        """Start from nothing. Steps that run commands need a shell, and tests a Python, that other steps bring."""
        from pytest_imagebuild.image.steps.bases import FromScratchStep  # noqa: PLC0415

        call = ChainCall("from_scratch")
        return cls._make((FromScratchStep(force=bool(force_build), where=call.where),))

    @classmethod
    def from_registry(
        cls,
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        add_python: str | None = None,
    ) -> Self:
        """Start from an image of a registry, by its reference: "debian:trixie", "ghcr.io/owner/name@sha256:...".

        `add_python` puts a standalone CPython of a series ("3.13", "3.14t") into `/usr/local`, beside what the image
        has. `setup_dockerfile_commands` are Dockerfile lines to do on top of both.

        `secret` holds what the registry is logged in with: REGISTRY_USERNAME and REGISTRY_PASSWORD, or
        SERVICE_ACCOUNT_JSON (Google), or AWS_REGION with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or with
        AWS_ROLE_ARN. Without it, the Docker configuration of the host says how.
        """
        call = ChainCall("from_registry")
        return cls._of_registry(
            call, tag, secret, setup=setup_dockerfile_commands, force=force_build, add_python=add_python
        )

    @classmethod
    def from_aws_ecr(
        cls,
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        add_python: str | None = None,
    ) -> Self:
        """Start from an image of AWS's container registry: `from_registry` with the keys of AWS in `secret`."""
        call = ChainCall("from_aws_ecr")
        return cls._of_registry(
            call, tag, secret, setup=setup_dockerfile_commands, force=force_build, add_python=add_python
        )

    @classmethod
    def from_gcp_artifact_registry(
        cls,
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        add_python: str | None = None,
    ) -> Self:
        """Start from an image of Google's registry: `from_registry` with SERVICE_ACCOUNT_JSON in `secret`."""
        call = ChainCall("from_gcp_artifact_registry")
        return cls._of_registry(
            call, tag, secret, setup=setup_dockerfile_commands, force=force_build, add_python=add_python
        )

    @classmethod
    def from_name(cls, name: str, *, environment_name: str | None = None, client: object = None) -> Self:  # noqa: ARG003 - the reference's signature
        """Start from an image of this machine's engine that `Image.publish` gave this name; it is never built.

        `name` is `NAME` or `NAME:TAG`, with `ENVIRONMENT/` before it if need be.
        """
        from pytest_imagebuild.image.steps.bases import FromNameStep  # noqa: PLC0415

        call = ChainCall("from_name")
        return cls._make((FromNameStep(name=image_name(call, name, environment_name), where=call.where),))

    @classmethod
    def from_id(cls, image_id: str, client: object = None) -> Self:  # noqa: ARG003 - the reference's signature
        """Raise: an id of Modal's names an image that only its servers have."""
        message = (
            f"the id {image_id!r} names an image on Modal's servers, and this plugin builds images on this machine. "
            "Write the image as a chain of calls, or name an image of this machine with Image.from_name()."
        )
        raise ChainCall("from_id").error(message)

    @classmethod
    def _of_registry(
        cls,
        call: ChainCall,
        tag: object,
        secret: object,
        *,
        setup: object,
        force: object,
        add_python: object,
    ) -> Self:
        from pytest_imagebuild.image.steps.registry import FromRegistryStep  # noqa: PLC0415

        given = call.secret(secret)
        lines: Any = list(setup) if isinstance(setup, tuple) else setup  # the check below says what it is, if no list
        step = FromRegistryStep(
            tag=call.registry_tag(tag),
            add_python=call.python_version(add_python, "add_python"),
            setup=call.strings("setup_dockerfile_commands", [lines]),
            method=call.method,
            login=None if given is None else _login(call, given),
            force=bool(force),
            where=call.where,
        )
        return cls._make((step,))


def _login(call: ChainCall, secret: Secret) -> RegistrySecret:
    from pytest_imagebuild.image.secret import RegistrySecret  # noqa: PLC0415 - few registries ask for one

    return RegistrySecret(secret=secret, service=_SERVICES.get(call.method, ""))

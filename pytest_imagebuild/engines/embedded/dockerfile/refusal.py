"""What this engine does not do in a Dockerfile, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_imagebuild.dockerfile import Copy, Dockerfile, DockerfileError, Instruction, Mount, Run
from pytest_imagebuild.dockerfile.urls import is_git

__all__ = ["check", "check_instruction"]

_INSTEAD = "the docker engine with BuildKit may"
_MOUNT_OPTIONS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"target", "source", "from", "readonly"}),
    "cache": frozenset({"target", "id", "sharing", "readonly", "mode", "uid", "gid"}),
    "tmpfs": frozenset({"target", "size"}),
    "secret": frozenset({"target", "id", "required", "mode", "uid", "gid", "env"}),
}
_CHECKSUM = "sha256:"


def check(dockerfile: Dockerfile) -> None:
    """Raise DockerfileError for the first line of a needed stage that cannot be done."""
    for number in dockerfile.needed:
        for item in dockerfile.stages[number].instructions:
            check_instruction(item)


def check_instruction(item: Instruction) -> None:
    """Raise DockerfileError for an instruction that cannot be done."""
    problem = None
    if isinstance(item, Run):
        problem = _run(item)
    elif isinstance(item, Copy):
        problem = _copy(item)
    if problem is not None:
        raise DockerfileError(item.line, problem)


def _run(item: Run) -> str | None:
    if item.security != "sandbox":
        return f"the embedded engine has no RUN --security={item.security}; {_INSTEAD}"
    if item.network not in ("default", "none", "host"):
        return f"--network of RUN is default, none or host, not {item.network!r}"
    if "device" in item.flags:
        return f"the embedded engine has no RUN --device; {_INSTEAD}"
    return next((problem for problem in map(_mount, item.mounts) if problem is not None), None)


def _mount(mount: Mount) -> str | None:
    if mount.kind == "ssh":
        return f"the embedded engine has no RUN --mount=type=ssh; {_INSTEAD}"
    unknown = sorted(set(mount.options) - _MOUNT_OPTIONS[mount.kind])
    if unknown:
        return f"the embedded engine knows no {unknown[0]}= in RUN --mount=type={mount.kind}; {_INSTEAD}"
    if mount.kind == "secret":
        named = mount.options.get("id") or mount.options.get("target")
        return None if named else "RUN --mount=type=secret needs an id="
    return None if "target" in mount.options else f"RUN --mount=type={mount.kind} needs a target="


def _copy(item: Copy) -> str | None:
    for flag in ("parents", "exclude", "keep-git-dir"):
        if flag in item.flags:
            return f"the embedded engine has no {item.keyword} --{flag}; {_INSTEAD}"
    if item.keyword == "ADD" and any(is_git(source) for source in item.sources):
        return f"the embedded engine adds no Git repositories; {_INSTEAD}"
    if item.checksum and not item.checksum.startswith((_CHECKSUM, "$")):
        return f"--checksum of ADD is {_CHECKSUM} and 64 digits, not {item.checksum!r}"
    if len(item.sources) + len(item.heredocs) > 1 and not item.destination.endswith(("/", ".")):
        return f"{item.keyword} of several sources needs a destination that ends with a slash"
    return None

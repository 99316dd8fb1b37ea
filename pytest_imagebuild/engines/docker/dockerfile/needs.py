"""What the classic builder does not know: said by line, with what helps."""

from __future__ import annotations

from pytest_imagebuild.dockerfile import Copy, Dockerfile, DockerfileError, Instruction, Run
from pytest_imagebuild.engines.work import DockerfileWork

__all__ = ["check_classic"]

_HELP = "needs BuildKit: install the buildx plugin of Docker (docker-buildx), or use the embedded engine"


def check_classic(dockerfile: Dockerfile, work: DockerfileWork) -> None:
    """Raise DockerfileError for the first line that takes BuildKit."""
    for number in dockerfile.needed:
        for item in dockerfile.stages[number].instructions:
            what = _needs(item)
            if what is None and isinstance(item, Run) and (work.environment or work.secrets):
                # The classic builder has variables for RUN only as build arguments, and these stay in the history.
                what = "a RUN with env= or secrets="
            if what is not None:
                raise DockerfileError(item.line, f"{what} {_HELP}")


def _needs(item: Instruction) -> str | None:
    if isinstance(item, (Run, Copy)):
        if item.heredocs:
            return "a here-document"
        flag = next((name for name in item.flags if name not in ("from", "chown")), None)
        if flag is not None:
            return f"--{flag} of {item.source.partition(' ')[0]}"
    return None

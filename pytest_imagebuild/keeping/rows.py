"""How the container of a session is started, as JSON: for the next run, and for the process that keeps containers."""

from __future__ import annotations

from pytest_imagebuild.engines.protocol import SessionSpec

__all__ = ["SpecRow", "row_of", "spec_of"]

SpecRow = tuple[list[str], str, int | None, float | None, bool]


def row_of(spec: SessionSpec) -> SpecRow | None:
    """Return a row, None for a container that needs more than an image: GPUs are leased, volumes shared."""
    if spec.gpus or spec.volumes or spec.environment:
        return None
    return [*spec.command], spec.network, spec.memory, spec.cpu, spec.isolate


def spec_of(row: object) -> SessionSpec | None:
    """Read a row; None where it is none."""
    match row:
        case [list(command), str(network), int() | None as memory, int() | float() | None as cpu, bool(isolate)]:
            return SessionSpec(
                command=tuple(map(str, command)), network=network, memory=memory, cpu=cpu, isolate=isolate
            )
    return None

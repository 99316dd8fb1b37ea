"""What is kept for the next run, and told the process that keeps containers, and by it: as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Capabilities, SessionSpec

__all__ = ["SpecRow", "capabilities_of", "layer_of", "row_of", "row_of_capabilities", "row_of_layer", "spec_of"]

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


def row_of_layer(layer: BuiltLayer) -> Mapping[str, object]:
    """Return what `layer_of` reads."""
    return {**_fields(layer), "labels": {**_fields(layer.labels), "inputs": dict(layer.labels.inputs)}}


def layer_of(row: Mapping[str, Any]) -> BuiltLayer:
    """Return the layer of a row. Raises TypeError and KeyError where it is none."""
    return BuiltLayer(**{**row, "labels": LayerLabels(**row["labels"])})


def row_of_capabilities(capabilities: Capabilities) -> Mapping[str, object]:
    """Return what `capabilities_of` reads."""
    return {**_fields(capabilities), "unenforced": dict(capabilities.unenforced)}


def capabilities_of(row: Mapping[str, Any]) -> Capabilities:
    """Return the capabilities of a row. Raises TypeError where it is none."""
    return Capabilities(**row)


def _fields(one: BuiltLayer | LayerLabels | Capabilities) -> dict[str, object]:
    return {field.name: getattr(one, field.name) for field in fields(one)}

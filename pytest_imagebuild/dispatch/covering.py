"""Coverage of what runs in containers, written beside the data of pytest-cov here, which combines and reports."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.session.messages import Measured

__all__ = ["PLUGIN", "left_out", "settings_of", "write"]

PLUGIN = "pytest_cov"
"""What is not loaded inside then: two would measure."""

_LEFT_OUT: pytest.StashKey[set[str]] = pytest.StashKey()


def settings_of(config: pytest.Config) -> Mapping[str, object] | None:
    """Return what pytest-cov measures in this run, None if it measures nothing."""
    controller = _controller(config)
    if controller is None:
        return None
    # It need not happen here.
    controller.cov._warn_no_data = controller.cov._warn_unimported_source = False  # noqa: SLF001 - as pytest-cov does
    return {
        "source": controller.cov_source,
        "branch": controller.cov_branch,
        "config": controller.cov_config,
        "contexts": config.getoption("cov_context", None) == "test",
    }


def write(config: pytest.Config, measured: Measured) -> None:
    """Write what was measured inside where pytest-cov looks for data to combine.

    Without a mapping in coverage's `[paths]`, files that only the image has are left out: they cannot be reported.
    """
    controller = _controller(config)
    if controller is None:
        return
    from coverage import CoverageData  # noqa: PLC0415 - it is there if pytest-cov is

    paths = {file for file in measured.files if controller.cov.config.paths or Path(file).is_file()}
    config.stash.setdefault(_LEFT_OUT, set()).update(measured.files.keys() - paths)
    place = os.path.join(controller.topdir, controller.cov.config.data_file)  # noqa: PTH118 - of a path that may be absolute
    data = CoverageData(basename=place, suffix=f"imagebuild.{uuid.uuid4().hex}")
    data.set_context(measured.context)
    lines: dict[str, Any] = {file: lines for file, lines in measured.files.items() if file in paths}
    if measured.arcs:
        data.add_arcs(lines)
    else:
        data.add_lines(lines)
    data.add_file_tracers({file: tracer for file, tracer in measured.tracers.items() if file in paths})
    data.write()


def left_out(config: pytest.Config) -> int:
    """Return how many files of images were measured and cannot be reported."""
    return len(config.stash.get(_LEFT_OUT, ()))


def _controller(config: pytest.Config) -> Any:
    plugin = config.pluginmanager.get_plugin("_cov")
    is_off = plugin is None or getattr(plugin, "_disabled", False)
    controller = None if is_off else getattr(plugin, "cov_controller", None)
    return controller if controller is not None and controller.cov is not None else None

"""What a worker is told at its start of the run that goes on here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_imagebuild.dispatch.covering import PLUGIN, settings_of
from pytest_imagebuild.dispatch.invocation import environment, ini_names, only_shows, worker_options
from pytest_imagebuild.plan.places import SOURCE_ROOT
from pytest_imagebuild.plan.secret_values import SecretValues
from pytest_imagebuild.session.setup import Setup

if TYPE_CHECKING:
    from pytest_imagebuild.engines.entries import FileEntry
    from pytest_imagebuild.engines.network import HostNetwork
    from pytest_imagebuild.engines.protocol import Engine

__all__ = ["Files", "command_line_of", "network_of", "setup_of", "variables_of", "width_of"]

Files = tuple[bytes, tuple[str, ...]]
"""The files that a container gets, as a tar, and the paths of those that it loses."""


def setup_of(
    config: pytest.Config,
    command_line: Mapping[str, Any],
    *,
    files: Files,
    path: Sequence[str],
    variables: SecretValues,
    isolate: bool,
) -> Setup:
    """Return the setup of a worker. `path` is for the front of its `sys.path`."""
    data, removed = files
    settings = settings_of(config)
    return Setup(
        payload=data,
        removed=removed,
        directories=(str(config.rootpath), str(config.invocation_params.dir), SOURCE_ROOT),
        cwd=str(config.invocation_params.dir),
        path=tuple(path),
        environment=variables,
        **command_line,
        ini_names=tuple(ini_names()),
        markers=tuple(config.getini("markers")),
        rootdir=str(config.rootpath),
        isolate=isolate,
        junit=_writes_junit(config),
        coverage=settings,
        width=width_of(config),
        blocked=(PLUGIN,) if settings else (),
        inifile=str(config.inipath) if config.inipath else None,
    )


def command_line_of(config: pytest.Config, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the pytest of a worker is started with that collects `arguments`."""
    options = worker_options(config)
    return {"args": tuple(arguments), "options": options, "plugins": tuple(options["plugins"])}


def network_of(
    engine: Engine, network: HostNetwork, *, connected: bool
) -> tuple[dict[str, str], tuple[FileEntry, ...]]:
    """Return the variables and files by which a container reaches what this machine reaches."""
    own_network = not connected or engine.capabilities().own_network
    return network.for_sessions(own_network=own_network)


def variables_of(
    config: pytest.Config,
    engine: Engine,
    network: Mapping[str, str],
    definition: str,
    *,
    connected: bool,
    offered: Mapping[str, str],
    own: Mapping[str, str],
) -> SecretValues:
    """Return the variables of a container of the image of a definition.

    `network` are those of `network_of`; `offered` ones win over what the run passes on, and `own` over these.
    """
    shown = {"COLUMNS": str(width_of(config))} if only_shows(config) else {}
    host = engine.capabilities().host_address if connected else ""
    ours = {"IMAGEBUILD_IMAGE": definition, "IMAGEBUILD_HOST": host}
    return SecretValues({**network, **environment(), **offered, **shown, **own, **ours})


def width_of(config: pytest.Config) -> int:
    """Return the width of the terminal, in characters."""
    if config.pluginmanager.has_plugin("terminalreporter"):
        return int(config.get_terminal_writer().fullwidth)
    return shutil.get_terminal_size(fallback=(80, 24)).columns


def _writes_junit(config: pytest.Config) -> bool:
    """Tell whether this process writes a JUnit file: under xdist, its controller does, with no word from tests."""
    return bool(config.getoption("xmlpath", None)) and not hasattr(config, "workerinput")

"""What workers are told that begin early: what they were told the last time, with the files that there are now."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_imagebuild.dispatch.invocation import project_root, trees_outside
from pytest_imagebuild.dispatch.projects import files_in
from pytest_imagebuild.dispatch.setups import command_line_of, network_of, setup_of, variables_of
from pytest_imagebuild.engines.network import HostNetwork
from pytest_imagebuild.session.kept import changes, statuses
from pytest_imagebuild.session.tree import payload, read_tree

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.early import Told
    from pytest_imagebuild.engines.layers import BuiltLayer
    from pytest_imagebuild.engines.protocol import Engine, SessionSpec
    from pytest_imagebuild.options import Options
    from pytest_imagebuild.session.setup import Setup

__all__ = ["telling"]


def telling(
    config: pytest.Config, options: Options, engine: Engine
) -> Callable[[BuiltLayer, SessionSpec, Told], Setup]:
    """Return what makes the setups of workers. Raises ImageBuildError, OSError, as the call does."""
    project = read_tree(project_root(config), options.sync)
    trees = (*trees_outside(config), project)
    now = statuses(project)
    network = HostNetwork.from_environment(os.environ)

    def setup(layer: BuiltLayer, spec: SessionSpec, told: Told) -> Setup:
        connected = spec.network == "default"
        variables, tools = network_of(engine, network, connected=connected)
        found = changes(files_in(layer, engine, options.cache_dir), now)
        return setup_of(
            config,
            command_line_of(config, told.files),
            files=(payload(trees, (), tools, there=found.same), found.removed),
            path=told.path,
            variables=variables_of(config, engine, variables, told.definition, connected=connected, offered={}, own={}),
            isolate=spec.isolate,
        )

    return setup

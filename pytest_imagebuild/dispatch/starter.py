"""Start the session of a key: a container of its built image, the project in it, a worker ready to collect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pytest

from pytest_imagebuild.dispatch.invocation import environment, import_path, ini_names, worker_options
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.protocol import BuiltLayer, FileEntry, SessionSpec
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.plan.context import SOURCE_ROOT
from pytest_imagebuild.session.runtime import COMMAND
from pytest_imagebuild.session.session import Session, Setup
from pytest_imagebuild.session.tree import ProjectTree, payload, read_tree

__all__ = ["SessionStarter"]


class SessionStarter:
    """Starts the sessions of one run."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        built: Mapping[Image, BuiltLayer],
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._built = built
        self._payloads: dict[Image, bytes] = {}

    def __call__(self, key: SessionKey, files: Sequence[str]) -> Session:
        """Start a session of `key`, whose worker collects `files`.

        Raises EngineError, DefinitionError (a lazy local source is missing).
        """
        own_network = not key.network or self._workspace.engine.capabilities().own_network
        variables, tools = self._workspace.network.for_sessions(own_network=own_network)
        setup = Setup(
            payload=self._payload(key, tools),
            directories=(str(self._config.rootpath), str(self._config.invocation_params.dir), SOURCE_ROOT),
            cwd=str(self._config.invocation_params.dir),
            path=tuple(import_path(self._tree, SOURCE_ROOT)),
            environment=self._variables(key, variables),
            args=tuple(files),
            options=worker_options(self._config),
            plugins=tuple(worker_options(self._config)["plugins"]),
            ini_names=tuple(ini_names()),
            markers=tuple(self._config.getini("markers")),
            rootdir=str(self._config.rootpath),
            isolate=key.isolation == "test",
            inifile=str(self._config.inipath) if self._config.inipath else None,
        )
        container = self._workspace.engine.start(
            self._built[key.image],
            SessionSpec(
                command=COMMAND,
                network="default" if key.network else "none",
                memory=key.memory,
                cpu=key.cpu,
                isolate=key.isolation == "test",
            ),
        )
        session = Session(container, setup)
        session.begin()
        session.collect(files)
        return session

    def _variables(self, key: SessionKey, network: Mapping[str, str]) -> dict[str, str]:
        offered: dict[str, str] = {}
        for result in self._config.hook.pytest_image_environment(config=self._config, image=key.image):
            offered.update(result or {})
        return {
            **network,
            **environment(),
            **offered,
            **dict(key.environment),
            "IMAGEBUILD_IMAGE": key.image.definition,
        }

    def _payload(self, key: SessionKey, tools: Sequence[FileEntry]) -> bytes:
        """Return the files that a container gets. They are the same for every one of many of an image."""
        if key.isolation == "session":
            return payload(self._tree, key.image.local_sources, tools)
        if key.image not in self._payloads:
            self._payloads[key.image] = payload(self._tree, key.image.local_sources, tools)
        return self._payloads[key.image]

    @cached_property
    def _tree(self) -> ProjectTree:
        return read_tree(Path(self._config.rootpath), self._workspace.options.sync)

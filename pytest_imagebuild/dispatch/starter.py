"""Start the session of a key: a container of its built image, the project in it, a worker ready to collect."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.build.volumes import provide
from pytest_imagebuild.dispatch.covering import PLUGIN, settings_of
from pytest_imagebuild.dispatch.early import EarlyContainers
from pytest_imagebuild.dispatch.gpus import lease_of
from pytest_imagebuild.dispatch.invocation import (
    OwnRun,
    environment,
    import_path,
    ini_names,
    only_shows,
    own_options,
    project_root,
    trees_outside,
    worker_options,
)
from pytest_imagebuild.dispatch.projects import Ground, Projects
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.errors import DefinitionError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.masking import Masking
from pytest_imagebuild.plan.context import SOURCE_ROOT
from pytest_imagebuild.plan.secret_values import SecretValues, read_secrets
from pytest_imagebuild.session.runtime import COMMAND
from pytest_imagebuild.session.session import Session
from pytest_imagebuild.session.setup import Setup
from pytest_imagebuild.session.tree import ProjectTree, payload, read_tree
from pytest_imagebuild.worker.words import known_plugins

__all__ = ["SessionStarter"]


class SessionStarter:
    """Starts the sessions of one run."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        built: Mapping[Image, BuiltLayer],
        say: Callable[[str], None],
        *,
        early: EarlyContainers | None,
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._built = built
        self._say = say
        self._early = early
        self._payloads: dict[tuple[Image, str], tuple[bytes, tuple[str, ...]]] = {}
        self.own: dict[SessionKey, OwnRun] = {}
        """What the workers read that collect by themselves."""
        self.collected: dict[SessionKey, Sequence[str]] = {}
        """What each of them has been told to collect: one in its place collects the same."""

    def __call__(self, key: SessionKey, files: Sequence[str]) -> Session:
        """Start a session of `key`, whose worker collects `files`. It waits for the GPUs that it leases.

        Raises EngineError, DefinitionError (a lazy local source, a volume or a secret is missing).
        """
        session = self.begin(key, files)
        session.collect(self.collected.get(key, files), known_plugins(self._config))
        return session

    def begin(self, key: SessionKey, files: Sequence[str] = ()) -> Session:
        """Start a session whose worker has not been told yet what to collect. Raises as the call does."""
        self._check_volumes(key)
        own_network = not key.network or self._workspace.engine.capabilities().own_network
        variables, tools = self._workspace.network.for_sessions(own_network=own_network)
        secrets = read_secrets(key.secrets, os.environ)
        settings = settings_of(self._config)
        data, removed = self._payload(key, tools)
        setup = Setup(
            payload=data,
            removed=removed,
            directories=(str(self._config.rootpath), str(self._config.invocation_params.dir), SOURCE_ROOT),
            cwd=str(self._config.invocation_params.dir),
            path=tuple(import_path(self._trees, SOURCE_ROOT)),
            environment=self._variables(key, variables, secrets),
            **self._command_line(key, files),
            ini_names=tuple(ini_names()),
            markers=tuple(self._config.getini("markers")),
            rootdir=str(self._config.rootpath),
            isolate=key.isolation == "test",
            junit=_writes_junit(self._config),
            coverage=settings,
            width=_width(self._config),
            blocked=(PLUGIN,) if settings else (),
            inifile=str(self._config.inipath) if self._config.inipath else None,
        )
        session = self._started(key, setup, Masking(secrets.values()))
        session.known = lambda: known_plugins(self._config)
        session.begin()
        return session

    def container(self, key: SessionKey) -> tuple[BuiltLayer, SessionSpec]:
        """Return what the container of a session is started of, and how, but for what it leases and mounts."""
        spec = SessionSpec(
            command=COMMAND,
            network="default" if key.network else "none",
            memory=key.memory,
            cpu=key.cpu,
            isolate=key.isolation == "test",
        )
        return self._ground(key).layer, spec

    def _ground(self, key: SessionKey) -> Ground:
        below = self._built[key.image]
        root = self._project.root
        # What a volume hides is written into the volume.
        if any(Path(path).is_relative_to(root) for path, _ in key.volumes):
            return Ground(below)
        return self._projects.ground(below, key.image.label)

    def _command_line(self, key: SessionKey, files: Sequence[str]) -> dict[str, Any]:
        if key.collects:
            own = self.own[key]
            return {
                "args": own.arguments,
                "options": own_options(self._config, own),
                "foreign_options": own.foreign_options,
                "describe": True,
                "shows": own.shows,
            }
        options = worker_options(self._config)
        return {"args": tuple(files), "options": options, "plugins": tuple(options["plugins"])}

    def _check_volumes(self, key: SessionKey) -> None:
        """Refuse a volume that the project would be written into, where it would stay."""
        for path, volume in key.volumes:
            for folder in (self._config.rootpath, self._config.invocation_params.dir):
                if folder.is_relative_to(path):
                    raise DefinitionError(
                        f"a volume cannot be mounted at {path}: the project, in {folder}, has its place there in the "
                        "container. Mount it at another path, or at one inside of the project.",
                        where=volume.where,
                    )

    def _started(self, key: SessionKey, setup: Setup, masking: Masking) -> Session:
        engine = self._workspace.engine
        lease = lease_of(key, engine.gpus, self._workspace.builder.leases, self._say)
        layer, plain = self.container(key)
        spec = replace(plain, gpus=lease.ids if lease else (), volumes=provide(engine, key.volumes))
        try:
            container = (self._early and self._early.take(layer, spec)) or engine.start(layer, spec)
        except BaseException:
            if lease:
                lease.release()
            raise
        return Session(container, setup, masking=masking, stopped=lease.release if lease else None)

    def _variables(self, key: SessionKey, network: Mapping[str, str], secrets: SecretValues) -> SecretValues:
        offered: dict[str, str] = {}
        for result in self._config.hook.pytest_image_environment(config=self._config, image=key.image):
            offered.update(result or {})
        if only_shows(self._config):
            offered["COLUMNS"] = str(_width(self._config))
        host = self._workspace.engine.capabilities().host_address if key.network else ""
        own = {**dict(key.environment), "IMAGEBUILD_IMAGE": key.image.definition, "IMAGEBUILD_HOST": host}
        return SecretValues({**network, **environment(), **offered, **secrets, **own})

    def _payload(self, key: SessionKey, tools: Sequence[FileEntry]) -> tuple[bytes, tuple[str, ...]]:
        """Return the files that a container gets, and the paths of those that it loses.

        They are the same for every one of many of an image.
        """
        ground = self._ground(key)
        if key.isolation == "session":
            return self._packed(key.image, ground, tools)
        same = key.image, ground.layer.reference
        if same not in self._payloads:
            self._payloads[same] = self._packed(key.image, ground, tools)
        return self._payloads[same]

    def _packed(self, image: Image, ground: Ground, tools: Sequence[FileEntry]) -> tuple[bytes, tuple[str, ...]]:
        found = self._projects.changes(ground)
        return payload(self._trees, image.local_sources, tools, there=found.same), found.removed

    @cached_property
    def _project(self) -> ProjectTree:
        return read_tree(project_root(self._config), self._workspace.options.sync)

    @cached_property
    def _trees(self) -> tuple[ProjectTree, ...]:
        return (*trees_outside(self._config), self._project)

    @cached_property
    def _projects(self) -> Projects:
        return Projects(self._workspace.builder, self._project)


def _writes_junit(config: pytest.Config) -> bool:
    """Tell whether this process writes a JUnit file: under xdist, its controller does, with no word from tests."""
    return bool(config.getoption("xmlpath", None)) and not hasattr(config, "workerinput")


def _width(config: pytest.Config) -> int:
    """Return the width of the terminal, in characters."""
    if config.pluginmanager.has_plugin("terminalreporter"):
        return int(config.get_terminal_writer().fullwidth)
    return shutil.get_terminal_size(fallback=(80, 24)).columns

"""Start the session of a key: a container of its built image, the project in it, a worker ready to collect."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.build.volumes import provide
from pytest_imagebuild.dispatch.early import EarlyContainers, Told, row
from pytest_imagebuild.dispatch.gpus import lease_of
from pytest_imagebuild.dispatch.invocation import (
    OwnRun,
    import_path,
    own_options,
    project_root,
    trees_outside,
)
from pytest_imagebuild.dispatch.projects import Ground, Projects
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.dispatch.setups import Files, command_line_of, network_of, setup_of, variables_of
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Container, SessionSpec
from pytest_imagebuild.errors import DefinitionError, ImageBuildError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.masking import Masking
from pytest_imagebuild.plan.places import SOURCE_ROOT
from pytest_imagebuild.plan.secret_values import read_secrets
from pytest_imagebuild.session.runtime import COMMAND
from pytest_imagebuild.session.session import Session
from pytest_imagebuild.session.setup import Setup
from pytest_imagebuild.session.tree import ProjectTree, payload, read_tree
from pytest_imagebuild.worker.words import known_plugins

__all__ = ["SessionStarter"]


class SessionStarter:
    """Starts the sessions of one run. `start` is what containers come from that were not started `early`."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        built: Mapping[Image, BuiltLayer],
        say: Callable[[str], None],
        *,
        start: Callable[[BuiltLayer, SessionSpec], Container],
        early: EarlyContainers | None,
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._built = built
        self._say = say
        self._start = start
        self._early = early
        self._payloads: dict[tuple[Image, str], Files] = {}
        self._paths: dict[SessionKey, tuple[str, ...]] = {}
        self.own: dict[SessionKey, OwnRun] = {}
        """What the workers read that collect by themselves."""
        self.collected: dict[SessionKey, Sequence[str]] = {}
        """What each of them has been told to collect: one in its place collects the same."""

    def __call__(self, key: SessionKey, files: Sequence[str]) -> Session:
        """Start a session of `key`, whose worker collects `files`. It waits for the GPUs that it leases.

        Raises EngineError, DefinitionError (a lazy local source, a volume or a secret is missing).
        """
        setup, masking = self._setup(key, files)
        self._paths[key] = setup.path
        if self._early and (session := self._early.session(*self.container(key), setup)):
            session.known = self._known
            return session
        session = self._begun(key, setup, masking)
        session.collect(self.collected.get(key, files), self._known())
        return session

    def begin(self, key: SessionKey) -> Session:
        """Start a session whose worker has not been told yet what to collect. Raises as the call does."""
        return self._begun(key, *self._setup(key, ()))

    def row(self, key: SessionKey, files: Sequence[str]) -> Sequence[object] | None:
        """Return what is kept for the next run of a session that collects `files`."""
        told = None
        if key in self._paths and _is_plain(key, self._config):
            told = Told(definition=key.image.definition, files=tuple(files), path=self._paths[key])
        return row(*self.container(key), told if self._early is None or self._early.trusts(told) else None)

    def _setup(self, key: SessionKey, files: Sequence[str]) -> tuple[Setup, Masking]:
        self._check_volumes(key)
        engine = self._workspace.engine
        variables, tools = network_of(engine, self._workspace.network, connected=key.network)
        secrets = read_secrets(key.secrets, os.environ)
        offered: dict[str, str] = {}
        for result in self._config.hook.pytest_image_environment(config=self._config, image=key.image):
            offered.update(result or {})
        setup = setup_of(
            self._config,
            self._command_line(key, files),
            files=self._payload(key, tools),
            path=import_path(self._trees, SOURCE_ROOT),
            variables=variables_of(
                self._config,
                engine,
                variables,
                key.image.definition,
                connected=key.network,
                offered=offered,
                own={**secrets, **dict(key.environment)},
            ),
            isolate=key.isolation == "test",
        )
        return setup, Masking(secrets.values())

    def _begun(self, key: SessionKey, setup: Setup, masking: Masking) -> Session:
        session = self._started(key, setup, masking)
        session.known = self._known
        session.begin()
        return session

    def _known(self) -> list[str]:
        return known_plugins(self._config)

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

    def containers(self, keys: Sequence[SessionKey]) -> list[tuple[BuiltLayer, SessionSpec]]:
        """Return what `container` does of each, found or made side by side."""
        with suppress(OSError):
            self._projects  # noqa: B018 - from here on, several threads want it
        with ThreadPoolExecutor(thread_name_prefix="imagebuild-project") as pool:
            return list(pool.map(self.container, keys))

    def _ground(self, key: SessionKey) -> Ground:
        below = self._built[key.image]
        root = self._project.root
        # What a volume hides is written into the volume.
        if any(Path(path).is_relative_to(root) for path, _ in key.volumes):
            return Ground(below)
        try:
            return self._projects.ground(below, key.image.label)
        except (ImageBuildError, OSError):
            # A session that is sent all of it says why.
            return Ground(below)

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
        return command_line_of(self._config, files)

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
            container = (self._early and self._early.take(layer, spec)) or self._start(layer, spec)
        except BaseException:
            if lease:
                lease.release()
            raise
        return Session(container, setup, masking=masking, stopped=lease.release if lease else None)

    def _payload(self, key: SessionKey, tools: Sequence[FileEntry]) -> Files:
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

    def _packed(self, image: Image, ground: Ground, tools: Sequence[FileEntry]) -> Files:
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


def _is_plain(key: SessionKey, config: pytest.Config) -> bool:
    """Say whether the worker of a session is told nothing but what the run and the definition say."""
    special = (key.environment, key.secrets, key.volumes, key.gpu, key.collects, key.image.local_sources)
    return not any(special) and not config.hook.pytest_image_environment.get_hookimpls()

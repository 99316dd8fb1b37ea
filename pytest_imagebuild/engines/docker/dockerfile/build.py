"""Execute a Dockerfile with the builder that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_imagebuild.dockerfile import read
from pytest_imagebuild.engines.docker.dockerfile.buildx import Buildx, find_buildx
from pytest_imagebuild.engines.docker.dockerfile.classic import ClassicBuilder
from pytest_imagebuild.engines.docker.dockerfile.needs import check_classic
from pytest_imagebuild.engines.docker.dockerfile.rewrite import Loan, rewritten
from pytest_imagebuild.engines.docker.marks import tag
from pytest_imagebuild.engines.layers import BuiltLayer, LayerLabels
from pytest_imagebuild.engines.protocol import Output
from pytest_imagebuild.engines.work import DockerfileWork
from pytest_imagebuild.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_imagebuild.engines.docker.store import Store

__all__ = ["DockerfileBuilder"]


class DockerfileBuilder:
    """BuildKit where buildx is installed, else the classic builder."""

    def __init__(self, api: APIClient, store: Store, *, address: str, platform: str, folder: Path) -> None:
        self._store = store
        self._platform = platform
        self._classic = ClassicBuilder(api)
        program = find_buildx(os.environ)
        self._buildx = Buildx(program, address, folder) if program is not None else None

    def build(self, parent: BuiltLayer | None, work: DockerfileWork, labels: LayerLabels, output: Output) -> BuiltLayer:
        """Build the target and keep it as the layer of `labels.key`."""
        dockerfile = read(
            work.text,
            build_args=work.build_args,
            platform=self._platform,
            target=work.target,
            on_parent=parent is not None,
        )
        dockerfile.check_platform(self._platform)
        if self._buildx is None:
            check_classic(dockerfile, work)

        def layer(reference: str | None) -> BuiltLayer:
            found = parent if reference is None else work.bases.get(reference)
            if found is None:
                raise EngineError(f"{reference} is not among the pinned images of this Dockerfile")
            return found

        def image(reference: str | None) -> str:
            found = layer(reference).labels
            return tag(found.key, found.namespace)

        def shell(reference: str | None) -> Sequence[str] | None:
            return self._store.config(layer(reference).reference).get("Shell")

        loan = Loan()
        if self._buildx is not None:
            tools = {f"imagebuild-tool-{number}": tool.path for number, tool in enumerate(work.tools)}
            loan = Loan(variables=bool(work.variables), files=tools)
        text = rewritten(dockerfile, work.text, image=image, shell=shell, loan=loan, prune=self._buildx is None)

        def make(name: str, marks: Mapping[str, str]) -> str:
            if self._buildx is not None:
                return self._buildx.build(text, work, name, marks, output)
            return self._classic.build(dockerfile, text, work, name=name, labels=marks, output=output)

        return self._store.adopt(labels, make)

    def close(self) -> None:
        """End what builds."""
        if self._buildx is not None:
            self._buildx.close()

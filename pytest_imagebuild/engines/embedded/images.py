"""Images that the user loaded from an archive file, by name and by id."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote, unquote

from pytest_imagebuild.engines.oci.manifest import OciImage, OciLayer
from pytest_imagebuild.engines.references import Reference, familiar
from pytest_imagebuild.engines.replacing import replace_text

__all__ = ["LoadedImages", "short"]


class LoadedImages:
    """Small files: `NAME.name` holds the id of an image, `ID.json` what it is made of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, name: str, image: OciImage) -> None:
        """Let `name` stand for an image from now on."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_text(self._record(image.id), json.dumps(asdict(image), sort_keys=True))
        replace_text(self._name(name), image.id)

    def named(self, name: str) -> OciImage | None:
        """Return the image that has a name."""
        try:
            return self.get(self._name(name).read_text(encoding="utf-8"))
        except OSError:
            return None

    def get(self, image: str) -> OciImage | None:
        """Return an image by its id."""
        try:
            found = json.loads(self._record(image).read_bytes())
            found["layers"] = tuple(OciLayer(**layer) for layer in found["layers"])
            return OciImage(**found)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def all(self) -> dict[str, OciImage]:
        """Return every image that has a name, by its names."""
        paths = sorted(self._folder.glob("*.name")) if self._folder.exists() else []
        found = {unquote(path.stem): self.named(unquote(path.stem)) for path in paths}
        return {name: image for name, image in found.items() if image is not None}

    def _name(self, name: str) -> Path:
        return self._folder / f"{quote(short(name), safe='')}.name"

    def _record(self, image: str) -> Path:
        return self._folder / f"{image.removeprefix('sha256:')}.json"


def short(name: str) -> str:
    """Return the name of an image as users write it, with a tag."""
    reference = Reference.parse(name)
    return f"{familiar(reference.repository)}:{reference.tag}"

"""Layer keys: what enters, and in which form.

A layer key is the sha256 of the canonical form of: format, builder version, platform, parent key, parent generation,
step, contents, pins. Every part is itself a digest or a short text, and is kept beside the built layer, so that a miss
can be explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.lockfile import Pin

__all__ = ["FORMAT", "KeyInputs", "contents_digest", "pins_digest"]

FORMAT = "1"
"""Changed when the same inputs must give other keys; every cached layer is rebuilt then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyInputs:
    """The parts of one layer key. `parent` and `generation` are empty for a base image."""

    builder: str
    platform: str
    parent: str
    generation: str
    step: str
    contents: str
    pins: str

    @property
    def key(self) -> str:
        """The layer key: 64 hex digits."""
        return digest({"format": FORMAT, **self.to_dict()})

    def to_dict(self) -> dict[str, str]:
        """Return the parts by name."""
        return {
            "builder": self.builder,
            "platform": self.platform,
            "parent": self.parent,
            "generation": self.generation,
            "step": self.step,
            "contents": self.contents,
            "pins": self.pins,
        }


def contents_digest(files: Iterable[FileEntry]) -> str:
    """Return the digest of a build context: paths, modes and contents; empty for no files."""
    entries = sorted((entry.path, entry.mode, entry.sha256) for entry in files)
    return digest(tuple(entries)) if entries else ""


def pins_digest(pins: Iterable[Pin] | BasePin | Mapping[str, BasePin] | None) -> str:
    """Return the digest of what the lockfile pins for a layer; empty where it pins nothing.

    A mapping holds the base images of a Dockerfile by their references.
    """
    if pins is None:
        return ""
    if isinstance(pins, BasePin):
        return digest({"digest": pins.digest, "source": pins.source})
    if isinstance(pins, Mapping):
        return digest({name: pins_digest(pin) for name, pin in pins.items()}) if pins else ""
    ordered = sorted(pins, key=lambda pin: (pin.name, pin.architecture, pin.version, pin.url))
    return digest(tuple(ordered))


MISS_WORDS: Mapping[str, str] = {
    "builder": "the image builder version changed",
    "platform": "the platform changed",
    "parent": "a layer below changed",
    "generation": "a layer below was rebuilt by a forced build",
    "step": "the step changed",
    "contents": "the content of its local files changed",
    "pins": "its pins in the lockfile changed",
}
"""What a difference in each part of a key means to a user."""

"""Flags, ini keys and environment variables, read once into one frozen value."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_imagebuild.units import parse_age

__all__ = ["INI_KEYS", "NamedImage", "Options", "add_options", "cache_dir", "named_images", "truthy", "upgrade_names"]

INI_KEYS: Mapping[str, tuple[str, str]] = {
    "image": ("linelist", "images for tests without a marker: FILE.py:NAME, or FOLDER = FILE.py:NAME for a folder"),
    "image_engine": ("string", "engine that builds and runs images: auto, docker, embedded, memory (default: auto)"),
    "image_builder_version": ("string", "image builder version (default: the newest)"),
    "image_lockfile": ("string", "path of the lockfile (default: imagebuild.lock beside the ini file)"),
    "image_sync": ("linelist", "patterns of project files that containers get; `!` leaves out (default: all)"),
    "image_keep": ("string", "how long containers wait for the next run, such as 30m (default: they do not)"),
    "gpu_missing": ("string", "what becomes of a test for whose gpu= there is no GPU here: skip, fail (default: skip)"),
    "image_cache_dir": ("string", "cache folder (default: IMAGEBUILD_CACHE_DIR, else the user's cache folder)"),
}


_GPU_MISSING = ("skip", "fail")
_KEEP_SECONDS = 600.0


class NamedImage(NamedTuple):
    """An image for the tests of a folder. `name` is FILE.py:NAME, relative to `base`, or MODULE:NAME.

    `origin` says where it is named.
    """

    folder: Path
    name: str
    base: Path
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What this run was told. `upgrade` None is no upgrade, empty is everything; `gpu_missing` is skip or fail.

    `keep` is for how many seconds containers wait for the next run, None where they do not.
    """

    engine: str
    lockfile: Path
    cache_dir: Path
    builder_version: str = ""
    sync: tuple[str, ...] = ()
    force_build: bool = False
    ignore_cache: bool = False
    locked: bool = False
    upgrade: frozenset[str] | None = None
    build_only: bool = False
    on_host: bool = False
    gpu_missing: str = "skip"
    keep: float | None = None
    images: tuple[NamedImage, ...] = ()

    @classmethod
    def from_config(cls, config: pytest.Config, environment: Mapping[str, str] = os.environ) -> Options:
        """Read a run's options. Raises pytest.UsageError for flags that contradict each other."""
        upgrade = config.getoption("image_lock_upgrade")
        if upgrade is not None and config.getoption("image_locked"):
            raise pytest.UsageError("--image-locked and --image-lock-upgrade contradict each other: use one of them.")
        _refuse_swallowed_path(config, upgrade)
        beside = config.inipath.parent if config.inipath else config.rootpath
        return cls(
            engine=config.getoption("image_engine")
            or environment.get("IMAGEBUILD_ENGINE")
            or _text(config, "image_engine")
            or "auto",
            builder_version=_text(config, "image_builder_version"),
            lockfile=beside / (_text(config, "image_lockfile") or "imagebuild.lock"),
            sync=tuple(config.getini("image_sync") or ()),
            cache_dir=cache_dir(environment, _text(config, "image_cache_dir"), beside),
            force_build=config.getoption("force_build") or truthy(environment.get("MODAL_FORCE_BUILD")),
            ignore_cache=config.getoption("ignore_image_cache") or truthy(environment.get("MODAL_IGNORE_CACHE")),
            locked=config.getoption("image_locked"),
            upgrade=None if upgrade is None else upgrade_names(upgrade),
            build_only=config.getoption("image_build_only"),
            on_host=config.getoption("no_image"),
            gpu_missing=_gpu_missing(config),
            keep=_keep(config),
            images=() if config.getoption("no_image") else named_images(config),
        )


def add_options(parser: pytest.Parser) -> None:
    """Register the flags and ini keys."""
    group = parser.getgroup("imagebuild", "tests in containers")
    flag = group.addoption
    flag(
        "--image",
        action="append",
        metavar="FILE.py:NAME",
        help="run every test that has no image marker in this image; several run it once in each",
    )
    flag("--no-image", action="store_true", help="run marked tests on the host")
    flag("--image-engine", metavar="NAME", help="engine that builds and runs images: auto, docker, embedded, memory")
    flag("--force-build", action="store_true", help="rebuild every layer of this run's images, replacing cached ones")
    flag("--ignore-image-cache", action="store_true", help="build from the top; neither read nor write the layer cache")
    flag("--image-locked", action="store_true", help="fail where the lockfile would have to change")
    flag(
        "--image-lock-upgrade",
        nargs="?",
        const="",
        metavar="NAME,...",
        help="resolve what the lockfile pins again: everything, or the packages and base images named",
    )
    flag("--image-build-only", action="store_true", help="build the images of the selected tests; run no test")
    flag(
        "--image-keep",
        action="store_true",
        help="have fresh containers wait for the next run, for 10 minutes or as long as image_keep (ini) says",
    )
    flag("--image-shell", metavar="NODEID", help="open a shell in the container of this test, instead of running tests")
    flag("--gpu-missing", choices=_GPU_MISSING, help="what becomes of a test for whose gpu= there is no GPU here")
    for name, (kind, text) in INI_KEYS.items():
        parser.addini(name, text, type=kind, default=None)  # type: ignore[arg-type]


def named_images(config: pytest.Config) -> tuple[NamedImage, ...]:
    """Return the images for tests without a marker: of the flag, which stands for all tests, else of the ini file.

    Raises pytest.UsageError.
    """
    everywhere, here = Path(config.rootpath.anchor), config.invocation_params.dir
    if flags := config.getoption("image"):
        return tuple(NamedImage(folder=everywhere, name=name, base=here, origin="--image") for name in flags)
    beside = config.inipath.parent if config.inipath else config.rootpath
    found = []
    for line in config.getini("image") or ():
        folder, equals, name = (part.strip() for part in line.rpartition("="))
        if not name or (equals and not (beside / folder).is_dir()):
            raise pytest.UsageError(
                f"image in {config.inipath}: {line!r} should be FILE.py:NAME, or FOLDER = FILE.py:NAME with the "
                f"path of a folder from {beside}."
            )
        place = Path(os.path.abspath(beside / folder)) if equals else everywhere  # noqa: PTH100 - links stay
        found.append(NamedImage(folder=place, name=name, base=beside, origin="image in the ini file:"))
    return tuple(found)


def cache_dir(environment: Mapping[str, str], ini: str, beside: Path) -> Path:
    """Return the cache folder: `IMAGEBUILD_CACHE_DIR`, else the ini key, else the user's cache folder."""
    named = environment.get("IMAGEBUILD_CACHE_DIR")
    if named:
        return Path(named).expanduser().absolute()
    if ini:
        return (beside / Path(ini).expanduser()).absolute()
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "imagebuild"


def truthy(value: str | None) -> bool:
    """Read a `MODAL_*` switch: anything but "", "0" and "false" (in any case) is on."""
    return value is not None and value.lower() not in {"", "0", "false"}


def upgrade_names(text: str) -> frozenset[str]:
    """Read `NAME,...`."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def _refuse_swallowed_path(config: pytest.Config, upgrade: str | None) -> None:
    """Refuse a path that the flag before it took for its value: `--image-lock-upgrade tests/`."""
    if not upgrade or f"--image-lock-upgrade={upgrade}" in config.invocation_params.args:
        return
    if (config.invocation_params.dir / upgrade.partition("::")[0]).exists():
        raise pytest.UsageError(
            f"--image-lock-upgrade took {upgrade!r}, which is a path, for the name of a package. Write "
            f"--image-lock-upgrade=NAME to resolve one package again, or put the flag after the paths: "
            f"pytest {upgrade} --image-lock-upgrade."
        )


def _gpu_missing(config: pytest.Config) -> str:
    value = config.getoption("gpu_missing") or _text(config, "gpu_missing") or _GPU_MISSING[0]
    if value not in _GPU_MISSING:
        raise pytest.UsageError(f"gpu_missing in the ini file is {value!r}; it takes {' or '.join(_GPU_MISSING)}.")
    return str(value)


def _keep(config: pytest.Config) -> float | None:
    text = _text(config, "image_keep").strip()
    if not text:
        return _KEEP_SECONDS if config.getoption("image_keep") else None
    try:
        return parse_age(text)
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"image_keep in the ini file: {error}") from error


def _text(config: pytest.Config, name: str) -> str:
    value = config.getini(name)
    return value if isinstance(value, str) else ""

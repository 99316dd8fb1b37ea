"""Flags, ini keys and environment variables, read once into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["INI_KEYS", "Options", "add_options", "cache_dir", "truthy", "upgrade_names"]

INI_KEYS: Mapping[str, tuple[str, str]] = {
    "image_engine": ("string", "engine that builds and runs images: auto, docker, embedded, memory (default: auto)"),
    "image_builder_version": ("string", "image builder version (default: the newest)"),
    "image_lockfile": ("string", "path of the lockfile (default: imagebuild.lock beside the ini file)"),
    "image_sync": ("linelist", "patterns of project files that containers get; `!` leaves out (default: all)"),
    "image_cache_dir": ("string", "cache folder (default: IMAGEBUILD_CACHE_DIR, else the user's cache folder)"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What this run was told. `upgrade` None means no upgrade; empty means everything."""

    engine: str
    builder_version: str
    lockfile: Path
    sync: tuple[str, ...]
    cache_dir: Path
    force_build: bool
    ignore_cache: bool
    locked: bool
    upgrade: frozenset[str] | None
    build_only: bool
    on_host: bool

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
        )


def add_options(parser: pytest.Parser) -> None:
    """Register the flags and ini keys."""
    group = parser.getgroup("imagebuild", "tests in containers")
    flag = group.addoption
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
    for name, (kind, text) in INI_KEYS.items():
        parser.addini(name, text, type=kind, default=None)  # type: ignore[arg-type]


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


def _text(config: pytest.Config, name: str) -> str:
    value = config.getini(name)
    return value if isinstance(value, str) else ""

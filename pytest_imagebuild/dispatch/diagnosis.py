"""What `imagebuild doctor` says of this machine: what each engine finds, and what helps."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.findings import Finding
from pytest_imagebuild.engines.gpus.host import host_gpus
from pytest_imagebuild.errors import EngineError

__all__ = ["Diagnosis", "diagnose"]

_LITTLE = 2_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """The findings of each engine, in the order in which `auto` tries them, and those that any engine needs."""

    engines: Mapping[str, Sequence[Finding]]
    common: Sequence[Finding]

    def usable(self, engine: str) -> str | None:
        """Return the engine that tests run on where `engine` is asked for; None where it lacks something.

        For `auto` that is the first that lacks nothing.
        """
        asked = self.engines if engine == "auto" else [engine]
        return next((name for name in asked if _all_there([*self.engines.get(name, ()), *self.common])), None)


def diagnose(cache_dir: Path) -> Diagnosis:
    """Try each engine, and look at the cache folder and the programs that help."""
    return Diagnosis(
        engines={"docker": [_docker(cache_dir)], "embedded": _embedded(cache_dir)},
        common=[
            _cache(cache_dir),
            _gpus(),
            _program("git", "project files are told from ignored ones", "sudo apt-get install git"),
            _program("mmdebstrap", "base images where no registry answers", "sudo apt-get install mmdebstrap"),
        ],
    )


def _all_there(findings: Sequence[Finding]) -> bool:
    return all(finding.good for finding in findings if finding.needed)


def _docker(cache_dir: Path) -> Finding:
    name = "Docker API"
    try:
        engine = choose_engine("docker", run=uuid.uuid4().hex, cache_dir=cache_dir)
        try:
            can = engine.capabilities()
        finally:
            engine.close()
    except EngineError as error:
        found, _, advice = str(error).partition(". ")
        return Finding(name=name, good=False, found=found, advice=advice)
    except OSError as error:
        return Finding(name=name, good=False, found=f"it cannot be used without a cache folder: {error}")
    return Finding(name=name, good=True, found=f"version {can.version} answers, {can.platform}")


def _embedded(cache_dir: Path) -> list[Finding]:
    if sys.platform != "linux":
        advice = "Use Docker here."
        return [Finding(name="system", good=False, found=f"{sys.platform}; it runs on Linux", advice=advice)]
    from pytest_imagebuild.engines.embedded.machine import inspect  # noqa: PLC0415 - it is for Linux only

    return inspect(cache_dir)


def _cache(folder: Path) -> Finding:
    name = "cache folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        advice = "Set IMAGEBUILD_CACHE_DIR to a folder that you may write to."
        return Finding(name=name, good=False, found=f"{folder}: {error.strerror}", advice=advice)
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    advice = "Make room with `imagebuild prune --older-than 14d`, or set IMAGEBUILD_CACHE_DIR to a larger disk."
    return Finding(name=name, good=free >= _LITTLE, found=found, advice=advice, needed=False)


def _gpus() -> Finding:
    host = host_gpus()
    shown = [f"{found.gpu.name or found.gpu.id} ({', '.join(found.gpu.types) or 'any'})" for found in host.gpus]
    found = ", ".join(shown) or f"none (looked at {', '.join(host.looked_at)})"
    return Finding(name="GPUs", good=True, found=found, needed=False)


def _program(name: str, purpose: str, advice: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name=name, good=False, found=f"not found; it gives: {purpose}", advice=advice, needed=False)
    try:
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name=name, good=False, found=f"{path} does not run: {error}", advice=advice, needed=False)
    return Finding(name=name, good=True, found=(shown.stdout or shown.stderr).partition("\n")[0], needed=False)

"""What `imagebuild doctor` says of this machine."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.findings import Finding
from pytest_imagebuild.errors import EngineError

__all__ = ["diagnose"]


def diagnose(cache_dir: Path) -> list[Finding]:
    """Look at the engine, the cache folder, and the programs that help."""
    checks: list[Callable[[], Finding]] = [
        lambda: _engine(cache_dir),
        lambda: _cache(cache_dir),
        lambda: _program("git", "project files are told from ignored ones", "sudo apt-get install git"),
        lambda: _program("mmdebstrap", "base images where no registry answers", "sudo apt-get install mmdebstrap"),
    ]
    return [check() for check in checks]


def _engine(cache_dir: Path) -> Finding:
    try:
        engine = choose_engine("docker", run=uuid.uuid4().hex, cache_dir=cache_dir)
        try:
            can = engine.capabilities()
        finally:
            engine.close()
    except EngineError as error:
        return Finding(name="docker engine", good=False, found="none that can be used", advice=str(error))
    return Finding(name="docker engine", good=True, found=f"{can.version}, {can.platform}")


def _cache(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(
            name="cache folder",
            good=False,
            found=f"{folder}: {error.strerror}",
            advice="Set IMAGEBUILD_CACHE_DIR to a folder that you may write to.",
        )
    free = shutil.disk_usage(folder).free / 1e9
    return Finding(name="cache folder", good=True, found=f"{folder}, {free:.0f} GB free")


def _program(name: str, purpose: str, advice: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name=name, good=False, found=f"not found; it gives: {purpose}", advice=advice, needed=False)
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20)
    return Finding(name=name, good=True, found=(shown.stdout or shown.stderr).splitlines()[0], needed=False)

"""Video: ffmpeg from Debian, and a function that calls it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from pytest_imagebuild import Image

image = Image.debian_slim(python_version="3.13").apt_install("ffmpeg")


def pattern(path: Path, *, seconds: float) -> None:
    """Write a video of a test pattern."""
    source = f"testsrc=duration={seconds}:size=160x120:rate=10"
    _run("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, str(path))


def thumbnail(video: Path, picture: Path, *, at: float) -> None:
    """Write the frame that a video shows `at` that many seconds."""
    _run("ffmpeg", "-loglevel", "error", "-ss", str(at), "-i", str(video), "-frames:v", "1", str(picture))


def streams(path: Path) -> list[dict[str, Any]]:
    """Return what ffprobe says of each stream."""
    return list(json.loads(_run("ffprobe", "-loglevel", "error", "-show_streams", "-of", "json", str(path)))["streams"])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

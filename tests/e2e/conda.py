"""A conda channel that a test serves, with packages that it makes, and an image that has a micromamba.

The image is a stand-in under the reference's own name, in the registry of the test ground: Debian with Python, a shell
that activates the environment, and a micromamba. That is the stand-in of `standin/micromamba`, or a real one where
IMAGEBUILD_TEST_MICROMAMBA names it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import pytest
from bases import Repository
from serving import Answer, Request, Served

__all__ = ["CondaChannels", "provide_micromamba"]

STANDIN = Path(__file__).with_name("standin")
REPOSITORY = "mambaorg/micromamba"
TAG = "2.9.0-debian13-slim"


def package(
    name: str, version: str, depends: Sequence[str], files: Mapping[str, str], links: Mapping[str, str], *, noarch: str
) -> tuple[dict[str, Any], bytes]:
    """Return the record in an index, and the bytes, of a `.tar.bz2` package; same arguments, same bytes."""
    index = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": list(depends),
        "subdir": "noarch" if noarch else "linux-64",
        **({"noarch": noarch} if noarch else {}),
    }
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "size_in_bytes": len(text.encode()),
        }
        for path, text in files.items()
    ]
    nothing = hashlib.sha256(b"").hexdigest()
    paths += [{"_path": path, "path_type": "softlink", "sha256": nothing, "size_in_bytes": 0} for path in links]
    members = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in (*files, *links)),
        "info/about.json": "{}",
        **(
            {"info/link.json": json.dumps({"noarch": {"type": noarch}, "package_metadata_version": 1})}
            if noarch
            else {}
        ),
        **files,
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path, text in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    packed = bz2.compress(data.getvalue())
    hashes = {"md5": hashlib.md5(packed).hexdigest(), "sha256": hashlib.sha256(packed).hexdigest()}
    return {**index, **hashes, "size": len(packed), "timestamp": 1577836800000}, packed


@final
class CondaChannels(Served):
    """Serves channels at an address of this machine; each has the subfolders `linux-64` and `noarch`."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self._packages: dict[tuple[str, str], dict[str, tuple[dict[str, Any], bytes]]] = {}
        self.url = f"http://{self.address}"

    def publish_python(self, channel: str, version: str) -> None:
        """Offer a Python: the one of the image, whose packages are those of the environment; and its pip."""
        series = ".".join(version.split(".")[:2])
        files = {
            "pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n",
            f"lib/python{series}/site-packages/README.txt": "packages of the environment\n",
        }
        links = {f"bin/{name}": "/usr/bin/python3" for name in ("python", "python3", f"python{series}")}
        self._add(channel, package("python", version, [], files, links, noarch=""))
        self.publish(channel, "pip", "26.0", depends=["python"])

    def publish(self, channel: str, name: str, version: str, *, depends: Sequence[str] = (), content: str = "") -> None:
        """Offer a version of a Python package whose module says its `version` and `content`."""
        files = {
            f"site-packages/{name}.py": f"version = {version!r}\ncontent = {content!r}\n",
            f"site-packages/{name}-{version}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            ),
            f"site-packages/{name}-{version}.dist-info/INSTALLER": "conda\n",
        }
        self._add(channel, package(name, version, [*depends, "python"], files, {}, noarch="python"))

    def publish_wheel(self, channel: str, wheel: Path) -> None:
        """Offer what a wheel of Python and text alone holds, as conda-forge would pack it."""
        name, version, *_ = wheel.name.split("-")
        with zipfile.ZipFile(wheel) as archive:
            files = {f"site-packages/{path}": archive.read(path).decode() for path in archive.namelist()}
        self._add(channel, package(name, version, ["python"], files, {}, noarch="python"))

    def withdraw(self, channel: str, name: str, version: str) -> None:
        """Offer a version no longer."""
        del self._packages[channel, "noarch"][f"{name}-{version}-0.tar.bz2"]

    def answer(self, request: Request) -> Answer:
        """Return an index or a package."""
        match request.path.strip("/").split("/"):
            case [channel, subdir, "repodata.json"]:
                records = {file: record for file, (record, _) in self._packages.get((channel, subdir), {}).items()}
                listing = {"info": {"subdir": subdir}, "packages": records, "packages.conda": {}, "repodata_version": 1}
                return 200, json.dumps(listing).encode(), {}
            case [channel, subdir, file] if file in self._packages.get((channel, subdir), {}):
                return 200, self._packages[channel, subdir][file][1], {}
        return 404, b"", {}

    def _add(self, channel: str, made: tuple[dict[str, Any], bytes]) -> None:
        record = made[0]
        file = f"{record['name']}-{record['version']}-{record['build']}.tar.bz2"
        self._packages.setdefault((channel, record["subdir"]), {})[file] = made


def provide_micromamba() -> None:
    """Put the image into the registry of the test ground."""
    registry = Repository(REPOSITORY)
    config, layers = registry.copied()
    plain = _layer()
    packed = gzip.compress(plain, compresslevel=1, mtime=0)
    config["config"] |= {
        "Env": [
            *config["config"]["Env"],
            "LANG=C.UTF-8",
            "ENV_NAME=base",
            "MAMBA_ROOT_PREFIX=/opt/conda",
            "MAMBA_EXE=/bin/micromamba",
        ],
        "User": "57439:57439",
        "WorkingDir": "/tmp",
        "Shell": ["/usr/local/bin/_dockerfile_shell.sh"],
    }
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
    config["history"].append({"created": "2020-01-01T00:00:00Z", "created_by": "a micromamba"})
    registry.push(TAG, config, [*layers, registry.put_layer(packed)])


def _layer() -> bytes:
    real = os.environ.get("IMAGEBUILD_TEST_MICROMAMBA")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        _add_file(archive, "usr/local/bin/_dockerfile_shell.sh", STANDIN / "_dockerfile_shell.sh", 0o755)
        # In /usr/bin, because a folder of that name would take the place of Debian's link /bin.
        _add_file(archive, "usr/bin/micromamba", Path(real) if real else STANDIN / "micromamba", 0o755)
        entry = tarfile.TarInfo("opt/conda/conda-meta")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o777
        archive.addfile(entry)
        for path in [] if real else _rattler():
            _add_file(archive, f"opt/rattler/{path.relative_to(_rattler_home())}", path, 0o644)
    return data.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, source: Path, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    content = source.read_bytes()
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _rattler_home() -> Path:
    spec = importlib.util.find_spec("rattler")
    if spec is None or spec.origin is None:
        pytest.skip("the stand-in of micromamba needs py-rattler: pip install py-rattler")
    return Path(spec.origin).parents[1]


def _rattler() -> list[Path]:
    return sorted(
        path for path in (_rattler_home() / "rattler").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )

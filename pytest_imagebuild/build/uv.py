"""The uv that is lent to steps: a wheel from the package index, verified, unpacked once into the cache folder."""

from __future__ import annotations

import hashlib
import html
import http.client
import io
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.builder import Builder

__all__ = ["uv_binary"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_TAGS = {"linux/amd64": "manylinux_2_17_x86_64", "linux/arm64": "manylinux_2_17_aarch64"}
_TIMEOUT = 60.0


def uv_binary(
    builder: Builder,
    version: str | None,
    platform: str,
    *,
    cache_dir: Path,
    environment: Mapping[str, str],
    target: str,
) -> FileEntry:
    """Return uv for `platform` as the tool at `target`; downloads it if the cache folder has none.

    `version` None means the builder version's pin, whose wheel hash is part of the package. Raises ImageBuildError.
    """
    wanted = version or builder.uv_version
    binary = cache_dir / "tools" / f"uv-{wanted}-{platform.replace('/', '-')}"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(binary.with_suffix(binary.suffix + ".lock")):
            if not binary.exists():
                _unpack(_download(builder, wanted, platform, environment), binary, wanted)
    return FileEntry(path=target, mode=0o755, source=binary)


def _unpack(wheel: bytes, binary: Path, version: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
            content = archive.read(member)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ImageBuildError(
            f"uv: what the index gave as the wheel of uv {version} is none. Check the index."
        ) from error
    temporary = binary.with_name(f"{binary.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o755)
        temporary.replace(binary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _download(builder: Builder, version: str, platform: str, environment: Mapping[str, str]) -> bytes:
    if platform not in _TAGS:
        raise ImageBuildError(f"uv: there is no uv for {platform}. Use pip_install in this image.")
    index = _index(environment)
    page_url = f"{index.rstrip('/')}/uv/"
    try:
        url, listed = _find(page_url, version, _TAGS[platform])
        wheel = _get(url)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ImageBuildError(
            f"uv: uv {version} cannot be downloaded from {_shown(page_url)}: {error}. Check the network, "
            "or set UV_DEFAULT_INDEX or PIP_INDEX_URL to an index that can be reached."
        ) from error
    pinned = builder.uv_wheels.get(platform) if version == builder.uv_version else None
    expected = pinned or listed
    found = hashlib.sha256(wheel).hexdigest()
    if expected and found != expected:
        raise ImageBuildError(
            f"uv: the wheel of uv {version} from {_shown(page_url)} has sha256 {found}, expected "
            f"{expected}. It was not used; check the index."
        )
    return wheel


def _index(environment: Mapping[str, str]) -> str:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            return environment[name]
    return "https://pypi.org/simple"


def _find(page_url: str, version: str, tag: str) -> tuple[str, str]:
    """Return the URL of the wheel and its sha256 as listed, which may be empty."""
    page = _get(page_url).decode("utf-8", errors="replace")
    if page.lstrip().startswith("{"):
        links = _json_links(page, page_url)
    else:
        hrefs = (html.unescape(href) for href in re.findall(r'href=["\']([^"\']+)["\']', page))
        links = [(href, urllib.parse.urldefrag(href).fragment.removeprefix("sha256=")) for href in hrefs]
    for link, sha256 in links:
        name = urllib.parse.unquote(urllib.parse.urlsplit(link).path.rpartition("/")[2])
        if name.startswith(f"uv-{version}-py3-none-") and tag in name and name.endswith(".whl"):
            return urllib.parse.urljoin(page_url, urllib.parse.urldefrag(link).url), sha256
    raise ImageBuildError(
        f"uv: {_shown(page_url)} lists no wheel of uv {version} for {tag}. Choose another uv_version."
    )


def _json_links(page: str, page_url: str) -> list[tuple[str, str]]:
    try:
        return [(item["url"], item.get("hashes", {}).get("sha256", "")) for item in json.loads(page)["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageBuildError(
            f"uv: {_shown(page_url)} is not the page of a package index. Check UV_DEFAULT_INDEX and PIP_INDEX_URL."
        ) from error


def _get(url: str) -> bytes:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise ImageBuildError(f"uv: {_shown(url)} is not an http address; uv is taken from a package index.")
    bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(bare, headers={"Accept": _ACCEPT})  # noqa: S310 - the scheme was checked
    opener = urllib.request.build_opener(*_authentication(parts, bare))
    with opener.open(request, timeout=_TIMEOUT) as response:
        content: bytes = response.read()
    return content


def _authentication(parts: urllib.parse.SplitResult, url: str) -> list[urllib.request.BaseHandler]:
    if not parts.username:
        return []
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    name, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
    passwords.add_password(None, url, name, password, is_authenticated=True)
    return [urllib.request.HTTPBasicAuthHandler(passwords)]


def _shown(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

"""The uv binary: found on an index page, verified, unpacked once."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from doubles import BUILDER

from pytest_imagebuild.build.uv import uv_binary
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import ImageBuildError

VERSION = "0.1.2"
WHEEL = f"uv-{VERSION}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


def wheel(member: str = f"uv-{VERSION}.data/scripts/uv", content: bytes = b"the binary") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("uv/__init__.py", "")
        archive.writestr(member, content)
    return stream.getvalue()


GOOD = wheel()
SHA256 = hashlib.sha256(GOOD).hexdigest()
PINNED = replace(BUILDER, uv_version=VERSION, uv_wheels={"linux/amd64": SHA256})


@dataclass
class Index:
    """A package index on this machine. `pages` are bodies by path; `login` is what it asks for."""

    address: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    login: str = ""
    promised: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Paths, and the login that came with each."""

    @property
    def simple(self) -> str:
        return f"http://{self.address}/simple"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    state = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, token = self.headers.get("Authorization", "").partition(" ")
            login = base64.b64decode(token).decode() if kind == "Basic" else ""
            state.asked.append((self.path, login))
            body = state.pages.get(self.path)
            status = 401 if state.login and login != state.login else 404 if body is None else 200
            self.send_response(status)
            content = body if status == 200 and body is not None else b"no"
            is_wheel = self.path.endswith(".whl")
            self.send_header("Content-Length", str(state.promised if state.promised and is_wheel else len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def offer(index: Index, *, sha256: str = SHA256, content: bytes = GOOD, link: str = f"../../files/{WHEEL}") -> None:
    files = [
        {"filename": "uv-0.1.2.tar.gz", "url": "/files/uv-0.1.2.tar.gz", "hashes": {}},
        {"filename": "uv-0.1.20.whl", "url": f"/files/{WHEEL.replace('0.1.2', '0.1.20')}", "hashes": {}},
        {"filename": "mac.whl", "url": f"/files/uv-{VERSION}-py3-none-macosx_11_0_arm64.whl", "hashes": {}},
        {"filename": WHEEL, "url": link, "hashes": {"sha256": sha256} if sha256 else {}},
    ]
    index.pages["/simple/uv/"] = json.dumps({"meta": {"api-version": "1.0"}, "files": files}).encode()
    index.pages[f"/files/{WHEEL}"] = content


def get(cache: Path, version: str | None = VERSION, platform: str = "linux/amd64", **environment: str) -> FileEntry:
    return uv_binary(PINNED, version, platform, cache_dir=cache, environment=environment, target="/.uv/uv")


def left(cache: Path) -> list[str]:
    """Return what lies in the cache, but for locks."""
    return [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def failure(cache: Path, version: str | None = VERSION, platform: str = "linux/amd64", **environment: str) -> str:
    with pytest.raises(ImageBuildError) as caught:
        get(cache, version, platform, **environment)
    assert left(cache) == []
    return str(caught.value)


# found --------------------------------------------------------------------------------------------------------------


def test_uv_is_unpacked_from_the_wheel_that_a_json_page_lists(index: Index, tmp_path: Path) -> None:
    offer(index)
    entry = get(tmp_path, UV_DEFAULT_INDEX=index.simple)
    assert entry.source is not None
    assert (entry.path, entry.mode, entry.source.read_bytes()) == ("/.uv/uv", 0o755, b"the binary")
    assert entry.source.stat().st_mode & 0o777 == 0o755
    assert left(tmp_path) == [f"uv-{VERSION}-linux-amd64"]


@pytest.mark.parametrize(
    "link",
    [
        '<a href="../../files/{wheel}#sha256={sha256}">{wheel}</a>',
        "<a data-x='y' href='/files/{wheel}#sha256={sha256}' data-requires-python='&gt;=3.8'>{wheel}</a>",
        '<a href="../../files/{wheel}">{wheel}</a>',
    ],
    ids=["relative", "absolute", "without a hash"],
)
def test_uv_is_unpacked_from_the_wheel_that_an_html_page_lists(index: Index, tmp_path: Path, link: str) -> None:
    offer(index)
    body = f"<!DOCTYPE html><html><body><h1>uv</h1>{link.format(wheel=WHEEL, sha256=SHA256)}</body></html>"
    index.pages["/simple/uv/"] = body.encode()
    get(tmp_path, UV_DEFAULT_INDEX=f"{index.simple}/")
    assert left(tmp_path) == [f"uv-{VERSION}-linux-amd64"]


def test_what_is_in_the_cache_is_not_downloaded_again(index: Index, tmp_path: Path) -> None:
    offer(index)
    first = get(tmp_path, UV_DEFAULT_INDEX=index.simple)
    index.asked.clear()
    assert get(tmp_path, None, UV_DEFAULT_INDEX=index.simple) == first
    assert index.asked == []


def test_threads_download_it_once(index: Index, tmp_path: Path) -> None:
    offer(index)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(get, tmp_path, UV_DEFAULT_INDEX=index.simple) for _ in range(4)]
    assert len({future.result().source for future in done}) == 1
    assert [path for path, _ in index.asked] == ["/simple/uv/", f"/files/{WHEEL}"]


@pytest.mark.parametrize(
    "environment",
    [
        {"UV_DEFAULT_INDEX": "HERE", "UV_INDEX_URL": "x", "PIP_INDEX_URL": "x"},
        {"UV_DEFAULT_INDEX": "", "UV_INDEX_URL": "HERE", "PIP_INDEX_URL": "x"},
        {"PIP_INDEX_URL": "HERE"},
    ],
)
def test_the_index_is_that_of_uv_else_that_of_pip(index: Index, tmp_path: Path, environment: dict[str, str]) -> None:
    offer(index)
    get(tmp_path, **{name: value.replace("HERE", index.simple) for name, value in environment.items()})
    assert index.asked


# refused ------------------------------------------------------------------------------------------------------------


def test_a_wheel_with_another_hash_than_the_index_lists_is_not_used(index: Index, tmp_path: Path) -> None:
    offer(index, content=wheel(content=b"evil"))
    found = hashlib.sha256(wheel(content=b"evil")).hexdigest()
    assert failure(tmp_path, UV_DEFAULT_INDEX=index.simple) == (
        f"uv: the wheel of uv {VERSION} from {index.simple}/uv/ has sha256 {found}, expected {SHA256}. "
        "It was not used; check the index."
    )


def test_the_hash_of_the_builder_version_beats_what_the_index_lists(index: Index, tmp_path: Path) -> None:
    evil = wheel(content=b"evil")
    offer(index, content=evil, sha256=hashlib.sha256(evil).hexdigest())
    assert f"expected {SHA256}" in failure(tmp_path, None, UV_DEFAULT_INDEX=index.simple)


def test_an_index_that_lists_no_such_wheel_is_told(index: Index, tmp_path: Path) -> None:
    offer(index)
    assert failure(tmp_path, "9.9", UV_DEFAULT_INDEX=index.simple) == (
        f"uv: {index.simple}/uv/ lists no wheel of uv 9.9 for manylinux_2_17_x86_64. Choose another uv_version."
    )


def test_a_platform_without_uv_is_told_to_use_pip(tmp_path: Path) -> None:
    assert failure(tmp_path, platform="linux/s390x") == (
        "uv: there is no uv for linux/s390x. Use pip_install in this image."
    )


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"", wheel(member="uv/other")])
def test_a_download_that_is_no_wheel_of_uv_is_told(index: Index, tmp_path: Path, content: bytes) -> None:
    offer(index, sha256="", content=content)
    builder = replace(PINNED, uv_version="0")
    with pytest.raises(ImageBuildError) as caught:
        uv_binary(
            builder,
            VERSION,
            "linux/amd64",
            cache_dir=tmp_path,
            environment={"UV_DEFAULT_INDEX": index.simple},
            target="/.uv/uv",
        )
    assert str(caught.value) == (f"uv: what the index gave as the wheel of uv {VERSION} is none. Check the index.")
    assert left(tmp_path) == []


def test_a_page_that_is_none_of_an_index_is_told(index: Index, tmp_path: Path) -> None:
    index.pages["/simple/uv/"] = b'{"message": "hello"}'
    assert failure(tmp_path, UV_DEFAULT_INDEX=index.simple) == (
        f"uv: {index.simple}/uv/ is not the page of a package index. Check UV_DEFAULT_INDEX and PIP_INDEX_URL."
    )


def test_a_download_that_breaks_off_is_told_with_what_to_check(index: Index, tmp_path: Path) -> None:
    offer(index)
    index.promised = 10_000
    message = failure(tmp_path, UV_DEFAULT_INDEX=index.simple)
    assert message.startswith(f"uv: uv {VERSION} cannot be downloaded from {index.simple}/uv/: IncompleteRead")


def test_a_download_that_failed_can_be_repeated(index: Index, tmp_path: Path) -> None:
    failure(tmp_path, UV_DEFAULT_INDEX=index.simple)
    offer(index)
    get(tmp_path, UV_DEFAULT_INDEX=index.simple)
    assert left(tmp_path) == [f"uv-{VERSION}-linux-amd64"]


def test_an_index_that_does_not_answer_is_told_with_what_to_set(index: Index, tmp_path: Path) -> None:
    assert failure(tmp_path, UV_DEFAULT_INDEX=index.simple) == (
        f"uv: uv {VERSION} cannot be downloaded from {index.simple}/uv/: HTTP Error 404: Not Found. "
        "Check the network, or set UV_DEFAULT_INDEX or PIP_INDEX_URL to an index that can be reached."
    )


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_an_index_that_is_no_http_address_is_told_without_its_password(tmp_path: Path, scheme: str) -> None:
    assert failure(tmp_path, UV_DEFAULT_INDEX=f"{scheme}://me:s3cret@host.example/simple") == (
        f"uv: {scheme}://host.example/simple/uv/ is not an http address; uv is taken from a package index."
    )


# passwords ----------------------------------------------------------------------------------------------------------


def test_the_login_in_the_address_of_the_index_is_used(index: Index, tmp_path: Path) -> None:
    offer(index)
    index.login = "me:s3cret @"
    get(tmp_path, UV_DEFAULT_INDEX=f"http://me:s3cret%20%40@{index.address}/simple")
    assert index.asked == [("/simple/uv/", index.login), (f"/files/{WHEEL}", index.login)]


@pytest.mark.parametrize("login", ["someone:else", ""], ids=["refused", "not asked for"])
def test_no_message_shows_the_login(index: Index, tmp_path: Path, login: str) -> None:
    index.login = login
    message = failure(tmp_path, UV_DEFAULT_INDEX=f"http://me:s3cret@{index.address}/simple")
    assert f"{index.simple}/uv/" in message
    assert "s3cret" not in message
    assert "me:" not in message


def test_no_message_about_a_page_or_a_hash_shows_the_login(index: Index, tmp_path: Path) -> None:
    address = f"http://me:s3cret@{index.address}/simple"
    offer(index, content=b"evil")
    assert "s3cret" not in failure(tmp_path, UV_DEFAULT_INDEX=address)
    assert "s3cret" not in failure(tmp_path, "9.9", UV_DEFAULT_INDEX=address)
    index.pages["/simple/uv/"] = b"{}"
    assert "s3cret" not in failure(tmp_path, UV_DEFAULT_INDEX=address)


def test_the_login_is_not_sent_to_another_host_that_the_page_links_to(index: Index, tmp_path: Path) -> None:
    offer(index, link=f"http://localhost:{index.address.rpartition(':')[2]}/files/{WHEEL}")
    get(tmp_path, UV_DEFAULT_INDEX=f"http://me:s3cret@{index.address}/simple")
    assert index.asked == [("/simple/uv/", "me:s3cret"), (f"/files/{WHEEL}", "")]

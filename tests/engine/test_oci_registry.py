"""Images of a registry, and registries that fail in every way that they know."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.oci import RegistryUnreachable, client
from pytest_imagebuild.engines.oci.content import Blobs
from pytest_imagebuild.engines.oci.manifest import OciImage
from pytest_imagebuild.engines.oci.registry import Registry
from pytest_imagebuild.errors import BaseImageError

from .conftest import ADDRESSES, BASE, daemon
from .registries import INDEX, Answer, Call, FakeRegistry, closed_port, digest_of, layer, serving

REAL = os.environ.get("IMAGEBUILD_TEST_REGISTRY", "127.0.0.1:5000")
CONTENT = os.urandom(300_000)
LAYERS = (layer(a=CONTENT), layer(b=b"second"))
PASSWORD = "very secret"  # pragma: allowlist secret
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving() as registry:
        yield registry


@pytest.fixture
def hastily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSES", (0.01, 0.01, 0.01, 0.01))


class Asker:
    """A `Registry` with a home of its own, and what it wrote."""

    def __init__(self, home: Path) -> None:
        self.blobs = Blobs(home / "blobs")
        self.environ = {"HOME": str(home)}
        self.lines: list[str] = []

    def registry(self, platform: str = "linux/amd64") -> Registry:
        return Registry(blobs=self.blobs, platform=platform, environ=self.environ)

    def resolve(self, reference: str) -> str:
        return self.registry().resolve(reference, self.lines.append)

    def fetch(self, reference: str, digest: str | None = None) -> OciImage:
        return self.registry().fetch(reference, digest or self.resolve(reference), self.lines.append)

    def logs_in(self, registry: str, user: str = "ann", password: str = PASSWORD) -> None:
        entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
        self.configures({"auths": {registry: entry}})

    def configures(self, config: dict[str, Any]) -> None:
        path = Path(self.environ["HOME"]) / ".docker" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))

    def files(self) -> list[str]:
        return sorted(path.name for path in (Path(self.environ["HOME"]) / "blobs").glob("*/*") if "." not in path.name)


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


def largest(image: dict[str, Any], fake: FakeRegistry) -> tuple[str, bytes]:
    """Return the digest and the bytes of the first layer."""
    manifest = json.loads(fake.content[f"manifests/{image['digest']}"][1])
    digest = manifest["layers"][0]["digest"]
    return digest, fake.content[f"blobs/{digest}"][1]


# The real registry.


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_reference_stands_for_the_digest_that_docker_gives(name: str, asker: Asker) -> None:
    asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"http://{REAL}"
    client = daemon(name)
    answer = client.api.inspect_distribution(BASE)  # type: ignore[no-untyped-call]
    client.close()
    assert asker.resolve(BASE) == asker.resolve(f"{REAL}/library/{BASE}") == answer["Descriptor"]["digest"]


def test_an_image_of_a_real_registry_is_fetched_whole(asker: Asker) -> None:
    image = asker.fetch(f"{REAL}/library/{BASE}")
    assert image.config["Cmd"] == ["python3"]
    assert all(asker.blobs.verify(layer.blob) for layer in image.layers)
    assert any("Downloading" in line and "MB/" in line for line in asker.lines)
    assert asker.lines[-1].endswith(": Download complete")


def test_an_image_that_is_here_is_not_asked_for(asker: Asker, fake: FakeRegistry) -> None:
    digest = fake.image("latest", *LAYERS)["digest"]
    first = asker.fetch(fake.reference(), digest)
    fake.calls.clear()
    assert asker.fetch(fake.reference(), digest) == first
    assert fake.calls == []


def test_only_what_is_missing_is_downloaded(asker: Asker, fake: FakeRegistry) -> None:
    asker.fetch(fake.reference(), fake.image("latest", LAYERS[0])["digest"])
    fake.calls.clear()
    asker.fetch(fake.reference("two"), fake.image("two", *LAYERS)["digest"])
    assert len(fake.asked("GET .*/blobs/")) == 2
    assert any(line.endswith(": Already exists") for line in asker.lines)


def test_the_manifest_of_the_platform_is_taken_from_an_index(asker: Asker, fake: FakeRegistry) -> None:
    entries = [
        {**fake.image("ignored", LAYERS[0], architecture=name, Labels={"is": name}), "platform": platform}
        for name, platform in (
            ("arm64", {"os": "linux", "architecture": "arm64", "variant": "v8"}),
            ("amd64", {"os": "linux", "architecture": "amd64"}),
        )
    ]
    index = fake.put("latest", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    assert asker.resolve(fake.reference()) == index["digest"]
    for platform, label in (("linux/amd64", "amd64"), ("linux/arm64", "arm64")):
        image = asker.registry(platform).fetch(fake.reference(), index["digest"], print)
        assert image.config["Labels"] == {"is": label}
    with pytest.raises(BaseImageError) as caught:
        asker.registry("linux/s390x").fetch(fake.reference(), index["digest"], print)
    assert str(caught.value) == (
        f"{fake.reference()} has no image for linux/s390x; it has linux/amd64, linux/arm64/v8."
    )


# What breaks on the way.


def test_a_blob_that_broke_off_is_resumed_where_it_ended(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    fake.often(1, f"GET .*{digest}", lambda answer: answer.break_off(data, 100_000))
    image = asker.fetch(fake.reference())
    first, second = (call.headers.get("Range") for call in fake.asked(f"GET .*{digest}"))
    assert first is None
    assert second in [f"bytes={size}-" for size in range(60_000, 100_001)]
    assert asker.blobs.path(image.layers[0].blob).read_bytes() == data


def test_a_registry_that_knows_no_ranges_sends_all_again(asker: Asker, fake: FakeRegistry) -> None:
    fake.knows_ranges = False
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    fake.often(1, f"GET .*{digest}", lambda answer: answer.break_off(data, 100_000))
    image = asker.fetch(fake.reference())
    assert asker.blobs.path(image.layers[0].blob).read_bytes() == data


@pytest.mark.usefixtures("hastily")
def test_a_registry_that_always_breaks_off_ends_the_download(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    digest, data = largest(image, fake)
    fake.often(99, f"GET .*{digest}", lambda answer: answer.break_off(data, 0))
    with pytest.raises(BaseImageError) as caught:
        asker.fetch(fake.reference())
    assert len(fake.asked(f"GET .*{digest}")) == 5
    assert not isinstance(caught.value, RegistryUnreachable)
    assert str(caught.value).startswith(
        f"{fake.reference()} is pinned to {image['digest']}, which was asked of {fake.address}; it broke off: "
    )
    assert str(caught.value).endswith("Try again; if it stays so, the registry or a proxy on the way is damaged.")
    assert digest.removeprefix("sha256:") not in asker.files()


def test_a_blob_of_another_digest_is_not_kept(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    wrong = bytes(len(data))
    fake.content[f"blobs/{digest}"] = ("", wrong)
    with pytest.raises(BaseImageError) as caught:
        asker.fetch(fake.reference())
    assert f"it gave: content with the digest {digest_of(wrong)} instead of {digest}." in str(caught.value)
    assert digest.removeprefix("sha256:") not in asker.files()
    fake.content[f"blobs/{digest}"] = ("", data)
    assert asker.blobs.path(asker.fetch(fake.reference()).layers[0].blob).read_bytes() == data


def test_a_blob_that_does_not_end_is_cut_at_its_size(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    fake.content[f"blobs/{digest}"] = ("", data + bytes(10_000_000))
    with pytest.raises(BaseImageError, match=f"it gave: content with the digest of more than {len(data)} bytes"):
        asker.fetch(fake.reference())


def test_a_manifest_of_another_digest_is_refused(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    other = fake.image("other", LAYERS[0])
    fake.content[f"manifests/{image['digest']}"] = fake.content[f"manifests/{other['digest']}"]
    with pytest.raises(BaseImageError, match=f"it gave: a manifest of the digest {other['digest']}"):
        asker.fetch(fake.reference(), image["digest"])
    assert asker.files() == []


def test_a_cut_manifest_is_no_pin(asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    fake.gives_digests = False
    kind, data = fake.content["manifests/latest"]
    fake.content["manifests/latest"] = (kind, data[:-20])
    with pytest.raises(BaseImageError, match=f"the manifest of {fake.reference()} is not JSON"):
        asker.resolve(fake.reference())


def test_a_registry_that_answers_head_without_a_digest_is_asked_with_get(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    fake.gives_digests = False
    assert asker.resolve(fake.reference()) == image["digest"]


def test_what_an_earlier_run_left_damaged_is_downloaded_anew(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    with asker.blobs.lock(digest):
        asker.blobs.path(digest).with_suffix(".partial").write_bytes(bytes(1000))
    image = asker.fetch(fake.reference())
    assert [call.headers.get("Range") for call in fake.asked(f"GET .*{digest}")] == ["bytes=1000-", None]
    assert asker.blobs.path(image.layers[0].blob).read_bytes() == data


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_busy_is_asked_again(status: int, asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    fake.often(1, "manifests/latest", lambda answer: answer.send(status))
    assert asker.resolve(fake.reference()) == image["digest"]


def test_retry_after_is_obeyed(asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    fake.often(1, "manifests/latest", lambda answer: answer.send(429, Retry_After="2"))
    begun = time.monotonic()
    asker.resolve(fake.reference())
    assert time.monotonic() - begun >= 2


def test_a_wait_of_an_hour_is_an_error_that_names_the_login(asker: Asker, fake: FakeRegistry) -> None:
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}'
    fake.often(99, "manifests/latest", lambda answer: answer.send(429, body, Retry_After="3600"))
    with pytest.raises(BaseImageError) as caught:
        asker.resolve(fake.reference())
    assert str(caught.value) == (
        f"the base image {fake.reference()} was asked of {fake.address}, which answered: HTTP 429 Too Many Requests. "
        f"Try again later, or log in with `docker login {fake.address}` to get a higher limit."
    )


@pytest.mark.usefixtures("hastily")
def test_a_registry_that_fails_for_good_has_answered(asker: Asker, fake: FakeRegistry) -> None:
    fake.often(99, ".", lambda answer: answer.send(500))
    with pytest.raises(BaseImageError, match="which answered: HTTP 500 Internal Server Error") as caught:
        asker.resolve(fake.reference())
    assert not isinstance(caught.value, RegistryUnreachable)


@pytest.mark.usefixtures("hastily")
def test_a_proxy_without_its_registry_is_no_answer(asker: Asker, fake: FakeRegistry) -> None:
    fake.often(99, ".", lambda answer: answer.send(503))
    with pytest.raises(RegistryUnreachable, match="which cannot be reached: HTTP 503"):
        asker.resolve(fake.reference())


def test_an_unknown_tag_is_refused_with_the_registrys_own_words(asker: Asker, fake: FakeRegistry) -> None:
    with pytest.raises(BaseImageError) as caught:
        asker.resolve(fake.reference("nope"))
    assert str(caught.value) == (
        f"the base image {fake.reference('nope')} was asked of {fake.address}, which answered: manifest unknown: "
        "manifest unknown (HTTP 404 Not Found). Check the spelling and the tag, or log in with "
        f"`docker login {fake.address}`."
    )


def test_a_registry_that_nobody_runs_is_unreachable(asker: Asker) -> None:
    place = f"127.0.0.1:{closed_port()}"
    with pytest.raises(RegistryUnreachable) as caught:
        asker.resolve(f"{place}/some/image:latest")
    assert str(caught.value) == (
        f"the base image {place}/some/image:latest was asked of {place}, which cannot be reached: Connection refused. "
        "Connect, or name a mirror in IMAGEBUILD_REGISTRY_MIRRORS."
    )
    assert (caught.value.registry, caught.value.said) == (place, "Connection refused")


def test_a_host_without_an_address_is_unreachable(asker: Asker) -> None:
    with pytest.raises(RegistryUnreachable):
        asker.resolve("registry.invalid/some/image:latest")


def test_the_first_failure_stops_the_other_downloads(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    digest, _ = largest(image, fake)
    released = threading.Event()

    def stall(answer: Answer) -> None:
        answer.begin(300_000)
        released.wait(30)

    fake.often(1, f"GET .*{digest}", stall)
    second = json.loads(fake.content["manifests/latest"][1])["layers"][1]["digest"]
    del fake.content[f"blobs/{second}"]
    begun = time.monotonic()
    with pytest.raises(BaseImageError, match="it answered: "):
        asker.fetch(fake.reference())
    released.set()
    assert time.monotonic() - begun < 10


# Processes.

FETCH = """
import sys
from pathlib import Path
from pytest_imagebuild.engines.oci.content import Blobs
from pytest_imagebuild.engines.oci.registry import Registry
registry = Registry(blobs=Blobs(Path(sys.argv[1])), platform="linux/amd64", environ={"HOME": sys.argv[1]})
registry.fetch(*sys.argv[2:], print)
"""


def fetching(asker: Asker, reference: str, digest: str) -> subprocess.Popen[bytes]:
    folder = Path(asker.environ["HOME"]) / "blobs"
    return subprocess.Popen([sys.executable, "-c", FETCH, str(folder), reference, digest], cwd=ROOT)


def test_a_killed_download_is_resumed(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    digest, data = largest(image, fake)
    released = threading.Event()

    def stall(answer: Answer) -> None:
        answer.break_off(data, 290_000)
        released.wait(20)

    fake.often(1, f"GET .*{digest}", stall)
    process = fetching(asker, fake.reference(), image["digest"])
    partial = asker.blobs.path(digest).with_suffix(".partial")
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = partial.stat().st_size
    released.set()
    fetched = asker.fetch(fake.reference(), image["digest"])
    assert had > 0
    assert fake.asked(f"GET .*{digest}")[-1].headers["Range"] == f"bytes={had}-"
    assert asker.blobs.path(fetched.layers[0].blob).read_bytes() == data
    assert not partial.exists()


def test_two_processes_download_once(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)

    def slowly(call: Call, answer: Answer) -> bool:
        if "/blobs/" in call.path:
            time.sleep(0.5)
        return False

    fake.faults.append(slowly)
    processes = [fetching(asker, fake.reference(), image["digest"]) for _ in range(2)]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(fake.asked("GET .*/blobs/")) == 3


def test_a_download_of_another_process_is_waited_for_with_a_word(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    digest, _ = largest(image, fake)
    lock = asker.blobs.lock(digest)
    lock.acquire()
    threading.Timer(1, lock.release).start()
    asker.fetch(fake.reference(), image["digest"])
    short = digest.removeprefix("sha256:")[:12]
    assert asker.lines.count(f"{fake.reference()}: {short}: Waiting for another process") == 1


# Mirrors.


def test_a_mirror_is_asked_first(asker: Asker, fake: FakeRegistry) -> None:
    with serving() as mirror:
        image = mirror.image("latest", *LAYERS)
        asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"{fake.address}=http://{mirror.address}"
        asker.fetch(fake.reference(), asker.resolve(fake.reference()))
    assert asker.resolve(f"{fake.reference()}@{image['digest']}") == image["digest"]
    assert fake.calls == []


def test_a_mirror_of_docker_hub_is_read_from_the_daemons_settings(asker: Asker, fake: FakeRegistry) -> None:
    settings = Path(asker.environ["HOME"]) / ".config" / "docker" / "daemon.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"registry-mirrors": [f"http://{fake.address}/"]}))
    image = fake.image("latest", *LAYERS)
    assert asker.resolve("some/image") == image["digest"]


def silent(mirror: FakeRegistry) -> str:
    return f"http://127.0.0.1:{closed_port()}"


def refusing(mirror: FakeRegistry) -> str:
    return f"http://{mirror.address}"


@pytest.mark.parametrize(
    ("mirrored", "said"), [(silent, "cannot be reached: Connection refused"), (refusing, "answered: manifest unknown")]
)
def test_a_mirror_that_does_not_have_it_is_passed_by(
    mirrored: Callable[[FakeRegistry], str], said: str, asker: Asker, fake: FakeRegistry
) -> None:
    image = fake.image("latest", *LAYERS)
    with serving() as mirror:
        asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"{fake.address}={mirrored(mirror)}"
        assert asker.resolve(fake.reference()) == image["digest"]
        asker.fetch(fake.reference(), image["digest"])
    assert said in asker.lines[0]
    assert asker.lines[0].endswith("; the registry itself is asked")


def test_what_the_registry_itself_says_decides(asker: Asker, fake: FakeRegistry) -> None:
    gone = f"127.0.0.1:{closed_port()}"
    asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"{gone}=http://{fake.address}"
    with pytest.raises(RegistryUnreachable) as caught:
        asker.resolve(f"{gone}/some/image")
    assert str(caught.value) == (
        f"the base image {gone}/some/image was asked of {gone}, which cannot be reached: Connection refused (before "
        f"that, the mirror {fake.address} answered: manifest unknown: manifest unknown (HTTP 404 Not Found)). Connect, "
        "or name a mirror in IMAGEBUILD_REGISTRY_MIRRORS."
    )


def test_a_mirror_with_a_password_in_its_address_is_refused(asker: Asker) -> None:
    asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"https://ann:{PASSWORD}@mirror.example"
    with pytest.raises(BaseImageError, match="has a mirror that is no address") as caught:
        asker.resolve("python:3.13")
    assert PASSWORD not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine, with its key, that nobody has signed."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext"
    path = tmp_path / "certificate.pem"
    more = ["subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "public.pem")]
    subprocess.run([*command.split(), *more], check=True, capture_output=True, timeout=30)
    with path.open("ab") as file:
        file.write((tmp_path / "public.pem").read_bytes())
    return path


def test_a_certificate_that_is_not_trusted_is_passed_by_until_it_is_named(
    asker: Asker, fake: FakeRegistry, certificate: Path
) -> None:
    image = fake.image("latest", *LAYERS)
    with serving(certificate=certificate) as mirror:
        mirror.image("latest", *LAYERS)
        asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"{fake.address}=https://{mirror.address}"
        assert asker.resolve(fake.reference()) == image["digest"]
        assert f"the mirror {mirror.address} has a certificate that is not trusted: " in asker.lines[0]
        assert mirror.calls == []
        fake.calls.clear()
        asker.environ["SSL_CERT_FILE"] = str(certificate)
        assert asker.resolve(fake.reference()) == image["digest"]
    assert fake.calls == []


# Credentials.


def needs_basic(call: Call, answer: Answer) -> bool:
    if call.authorization == "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode():
        return False
    answer.send(401, WWW_Authenticate='Basic realm="here"')
    return True


def test_basic_credentials_come_from_the_docker_config(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    asker.logs_in(fake.address)
    assert asker.fetch(fake.reference(), asker.resolve(fake.reference())).layers
    assert asker.resolve(fake.reference()) == image["digest"]


def test_credentials_come_from_a_helper(
    asker: Asker, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin" / "docker-credential-ours"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\necho '{json.dumps({'Username': 'ann', 'Secret': PASSWORD})}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    asker.configures({"credHelpers": {fake.address: "ours"}})
    image = fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    assert asker.resolve(fake.reference()) == image["digest"]


@pytest.mark.parametrize("password", [None, "wrong secret"])
def test_a_refused_login_names_no_password(password: str | None, asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    if password is not None:
        asker.logs_in(fake.address, password=password)
    with pytest.raises(BaseImageError) as caught:
        asker.resolve(fake.reference())
    assert "which answered: HTTP 401 Unauthorized." in str(caught.value)
    assert str(caught.value).endswith(f"or log in with `docker login {fake.address}`.")
    assert "secret" not in str(caught.value)


def test_credentials_that_are_given_are_used_in_the_place_of_those_of_the_docker_config(
    asker: Asker, fake: FakeRegistry
) -> None:
    image = fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    asker.logs_in(fake.address, password="another secret")
    given = Credentials(username="ann", password=PASSWORD)
    assert asker.registry().resolve(fake.reference(), print, given) == image["digest"]
    assert asker.registry().fetch(fake.reference(), image["digest"], print, given).layers


def test_credentials_that_are_given_go_to_no_mirror(asker: Asker, fake: FakeRegistry) -> None:
    image = fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    given = Credentials(username="ann", password=PASSWORD)
    with serving() as mirror:
        mirror.faults.append(needs_basic)
        asker.environ["IMAGEBUILD_REGISTRY_MIRRORS"] = f"{fake.address}=http://{mirror.address}"
        assert asker.registry().resolve(fake.reference(), print, given) == image["digest"]
        assert {call.authorization for call in mirror.calls} == {""}


def test_a_refused_secret_is_told_as_such(asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    fake.faults.append(needs_basic)
    with pytest.raises(BaseImageError) as caught:
        asker.registry().resolve(fake.reference(), print, Credentials(username="ann", password="wrong secret"))
    assert str(caught.value) == (
        f"the base image {fake.reference()} was asked of {fake.address}, which answered: HTTP 401 Unauthorized. Check "
        "the spelling and the tag, or check the values of the secret that the chain call gives for this registry."
    )


def needs_token(service: FakeRegistry) -> Callable[[Call, Answer], bool]:
    def check(call: Call, answer: Answer) -> bool:
        if call.authorization == "Bearer good-token":
            return False
        realm = f'Bearer realm="http://{service.address}/token",service="ours",scope="repository:some/image:pull"'
        answer.send(401, WWW_Authenticate=realm)
        return True

    return check


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_is_fetched_once_and_used(key: str, asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    asker.logs_in(fake.address)
    with serving() as service:
        service.often(99, "/token", lambda answer: answer.send(200, json.dumps({key: "good-token"}).encode()))
        fake.faults.append(needs_token(service))
        digest = asker.resolve(fake.reference())
        service.calls.clear()
        asker.fetch(fake.reference(), digest)
    assert [call.path for call in service.calls] == ["/token?service=ours&scope=repository%3Asome%2Fimage%3Apull"]
    assert service.calls[0].authorization.startswith("Basic ")
    assert {call.authorization for call in fake.calls} == {"", "Bearer good-token"}


def test_an_identity_token_is_exchanged(asker: Asker, fake: FakeRegistry) -> None:
    fake.image("latest", *LAYERS)
    asker.configures({"auths": {fake.address: {"identitytoken": "identity"}}})
    with serving() as service:
        service.often(99, "POST /token", lambda answer: answer.send(200, b'{"access_token": "good-token"}'))
        fake.faults.append(needs_token(service))
        asker.fetch(fake.reference())


def test_a_redirect_to_another_host_carries_no_credentials(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    asker.logs_in(fake.address)
    fake.faults.append(needs_basic)
    with serving("localhost") as storage:
        storage.often(99, "/stored", lambda answer: answer.send(200, data))
        place = f"http://{storage.address}/stored?signature=secret"
        fake.often(99, f"GET .*{digest}", lambda answer: answer.send(307, Location=place))
        image = asker.fetch(fake.reference())
    assert asker.blobs.path(image.layers[0].blob).read_bytes() == data
    assert [call.authorization for call in storage.calls] == [""]


def test_a_redirect_within_the_registry_keeps_the_login(asker: Asker, fake: FakeRegistry) -> None:
    digest, data = largest(fake.image("latest", *LAYERS), fake)
    asker.logs_in(fake.address)
    fake.faults.append(needs_basic)
    fake.often(99, "/stored", lambda answer: answer.send(200, data))
    fake.often(99, f"GET .*{digest}", lambda answer: answer.send(307, Location="/stored"))
    asker.fetch(fake.reference())
    assert fake.asked("/stored")[0].authorization.startswith("Basic ")


def test_an_error_after_a_redirect_shows_neither_address_nor_body(asker: Asker, fake: FakeRegistry) -> None:
    digest, _ = largest(fake.image("latest", *LAYERS), fake)
    with serving("localhost") as storage:
        body = b'{"errors": [{"code": "X", "message": "what the metadata service says"}]}'
        storage.often(99, "/stored", lambda answer: answer.send(403, body))
        place = f"http://{storage.address}/stored?signature=secret"
        fake.often(99, f"GET .*{digest}", lambda answer: answer.send(307, Location=place))
        with pytest.raises(BaseImageError, match="it answered: HTTP 403 Forbidden") as caught:
            asker.fetch(fake.reference())
    assert "secret" not in str(caught.value)
    assert "metadata" not in str(caught.value)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "/v2/some/image/manifests/latest"])
def test_a_redirect_that_leads_nowhere_is_an_error(target: str, asker: Asker, fake: FakeRegistry) -> None:
    fake.often(99, ".", lambda answer: answer.send(307, Location=target))
    with pytest.raises(BaseImageError, match="which gave: a redirect"):
        asker.resolve(fake.reference())


def test_netrc_is_not_read(asker: Asker, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login ann password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    fake.image("latest", *LAYERS)
    asker.resolve(fake.reference())
    assert {call.authorization for call in fake.calls} == {""}


def test_no_proxy_is_asked_for_this_machine(asker: Asker, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    image = fake.image("latest", *LAYERS)
    assert asker.resolve(fake.reference()) == image["digest"]


@pytest.mark.parametrize("reference", ["Python", "a b", "python:", "../x", "x/../../y", "python:t@g", "-x", ""])
def test_what_is_no_name_is_sent_nowhere(reference: str, asker: Asker) -> None:
    with pytest.raises(BaseImageError):
        asker.resolve(reference)

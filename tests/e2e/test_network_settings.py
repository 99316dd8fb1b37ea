"""The host's network settings work inside steps and tests, and leave no trace in what is kept."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest, on_one_engine
from observing import holds
from packages import PackageIndex

TIMEOUT = 180
INDEX = "index.test"
"""A name that only the proxy knows."""

PROJECT = """
import os
import pytest
from pytest_imagebuild import Image

fetch = "import urllib.request as r; print(r.urlopen('http://only-by-proxy.test/{{}}').read())"
image = (
    Image.from_registry("{base}")
    .env({{"NONCE": "{nonce}", "PROBE": "{probe}"}})
    .run_commands('grep -q "{bundle}" "$SSL_CERT_FILE"', f'python3 -c "{{fetch.format("step")}}"')
    .pip_install("demo")
    .uv_pip_install("other")
)

@pytest.mark.image(image)
def test_inside():
    import demo, other
    exec(fetch.format("test"))
    assert "{bundle}" in open(os.environ["SSL_CERT_FILE"]).read()
    assert demo.version == other.version == "1.0"

def test_image(image_build):
    print("layer", image_build(image).reference)
"""


def test_certificates_proxies_and_indexes_are_used_and_leave_no_trace(
    project: pytest.Pytester,
    engine: EngineUnderTest,
    base: OwnBase,
    nonce: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = engine.host_address
    bundle, password, proxy_password = (f"{name}-{nonce}" for name in ("bundle", "password", "proxypassword"))
    certificates = _Certificates(tmp_path / "certificates", INDEX)
    with (
        PackageIndex(host, login=f"reader:{password}", tls=certificates.server()) as index,
        PackageIndex(host, login=f"user:{proxy_password}") as proxy,
    ):
        index.publish("demo", "1.0")
        index.publish("other", "1.0")
        certificates.write_bundle(bundle)
        proxy.names[INDEX] = index.address
        index_url = f"https://reader:{password}@{INDEX}/simple/"
        proxy_url = f"http://user:{proxy_password}@{proxy.address}"
        for name, value in {
            "SSL_CERT_FILE": str(certificates.bundle),
            "PIP_CERT": str(certificates.bundle),
            "PIP_INDEX_URL": index_url,
            "UV_DEFAULT_INDEX": index_url,
            "http_proxy": proxy_url,
            "HTTPS_PROXY": proxy_url,
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("PIP_TRUSTED_HOST", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        project.makepyfile(PROJECT.format(base=base.reference, nonce=nonce, probe=nonce[::-1], bundle=bundle))

        result = project.runpytest_subprocess("-v", "-rP", timeout=TIMEOUT)

    result.assert_outcomes(passed=2)
    assert {visit.path for visit in proxy.visits if visit.login == f"user:{proxy_password}"} >= {
        "http://only-by-proxy.test/step",
        "http://only-by-proxy.test/test",
        f"{INDEX}:443",
    }
    assert any(visit.path.startswith("/files/demo/") for visit in index.visits)
    assert any(visit.path.startswith("/files/other/") for visit in index.visits)

    secrets = [bundle, password, proxy_password, proxy.address]
    reference = re.findall(r"^layer (\S+)$", result.stdout.str(), re.MULTILINE)[-1]
    # The definition of the test holds the text of the bundle itself, so that is looked for in layers only.
    assert holds(engine.image_bytes(reference), nonce[::-1], *secrets[1:], f"{bundle}\n") == [nonce[::-1]]
    assert _found(engine.image_description(reference), secrets[1:]) == []
    assert _found((project.path / "imagebuild.lock").read_text(), secrets) == []
    assert _found(result.stdout.str() + result.stderr.str(), secrets[1:3]) == []


@pytest.mark.parametrize("tool", ["pip_install", "uv_pip_install"])
@pytest.mark.parametrize("where", ["environment", "argument"])
@on_one_engine()
def test_the_password_of_an_index_is_not_in_what_an_error_says(
    project: pytest.Pytester,
    engine: EngineUnderTest,
    base: OwnBase,
    nonce: str,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    where: str,
) -> None:
    host, password = engine.host_address, f"password-{nonce}"
    with PackageIndex(host, login="reader:another") as index:
        url = f"http://reader:{password}@{index.address}/simple/"
        monkeypatch.setenv("PIP_TRUSTED_HOST", host)
        argument = f', index_url="{url}"' if where == "argument" else ""
        if where == "environment":
            monkeypatch.setenv("PIP_INDEX_URL", url)
            monkeypatch.setenv("UV_INDEX", url)
        project.makepyfile(
            "from pytest_imagebuild import Image\n"
            f'def test_image(image_build):\n    image_build(Image.from_registry("{base.reference}")'
            f'.env({{"NONCE": "{nonce}"}}).{tool}("demo"{argument}))'
        )

        result = project.runpytest_subprocess("-v", timeout=TIMEOUT)

    result.assert_outcomes(failed=1)
    output = result.stdout.str() + result.stderr.str()
    assert f'{tool}("demo") failed' in output
    shown = [line for line in output.splitlines() if password in line and "image_build(Image" not in line]
    assert shown == []


def _found(text: str, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if secret in text]


class _Certificates:
    """An authority of the test's own, a server certificate for a name, and a bundle that has the authority."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.bundle = folder / "bundle.crt"
        self._openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test")
        self._openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=index", "server")
        (folder / "names").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
        sign = "openssl x509 -req -in server.crt -CA ca.crt -CAkey ca.key -CAcreateserial"
        self._run(f"{sign} -days 2 -extfile names -out signed.crt")

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "signed.crt", self._folder / "server.key")
        return context

    def write_bundle(self, mark: str) -> None:
        """Write what this machine trusts and the authority, with `mark` as a comment."""
        trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        texts = [Path(trusted).read_text() if trusted else "", f"# {mark}\n", (self._folder / "ca.crt").read_text()]
        self.bundle.write_text("".join(texts))

    def _openssl(self, command: str, name: str = "ca") -> None:
        self._run(f"openssl {command} -keyout {name}.key -out {name}.crt")

    def _run(self, command: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not there to make certificates with")
        subprocess.run(command.split(), cwd=self._folder, check=True, capture_output=True, timeout=60)

"""The proof: steps and tests that use secrets in every way, and then no trace of a value anywhere."""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from bases import OwnBase
from engines import EngineUnderTest
from inner import Inner, Ran, outcomes
from observing import holds
from packages import PackageIndex

PROJECT = """
import base64
import json
import os
import subprocess
import sys
import threading
import warnings

import pytest
from pytest_imagebuild import Image, Secret

TOKEN = Secret.from_local_environ(["TOKEN"])
LOGIN = Secret.from_dotenv(filename="login.env")
HELD = Secret.from_dict({"HELD": os.environ.get("HELD_BY_HOST")})
NAMED = Secret.from_name("service")

below = Image.from_registry("@base@").env({"NONCE": "@nonce@"})
printing = below.run_commands(
    'echo "$TOKEN $HELD"; printf %s "$TOKEN" | base64 -w 0; echo; echo "$NAMED" >&2',
    'env; set -x; : "$TOKEN @mark@"',
    '[ "${#TOKEN}" -gt 20 ] && [ -n "$HELD" ] && [ -n "$NAMED" ] && echo well > /srv/done',
    secrets=[TOKEN, HELD, NAMED],
)
piped = printing.pip_install(
    "first@mark@", extra_options='--index-url "http://reader:$PASSWORD@@index@/simple/"', secrets=[LOGIN]
)
by_variable = piped.pip_install("second@mark@", secrets=[LOGIN])
by_uv = by_variable.uv_pip_install(
    "third@mark@",
    "fourth@mark@ @ http://reader:${PASSWORD}@@index@/files/fourth@mark@/fourth@mark@-1.0-py3-none-any.whl",
    secrets=[LOGIN],
)
failing = below.run_commands('echo "before $TOKEN"; ls "/no/$TOKEN"', secrets=[TOKEN])
xs = 'head -c {} /dev/zero | tr "\\\\0" x'
cut = below.run_commands(xs.format(7900), 'printf %s "$TOKEN"', xs.format(500), "exit 4", secrets=[TOKEN])


def test_image(image_build):
    print("layer", image_build(by_uv).reference)


@pytest.mark.parametrize("name", ["failing", "cut"])
def test_failing(image_build, name):
    image_build(globals()[name])


@pytest.mark.image(failing)
def test_in_failing():
    pass


inside = pytest.mark.image(printing, secrets=[TOKEN, HELD, NAMED])


@inside
def test_has_them():
    assert len(os.environ["TOKEN"]) > 20 and os.environ["HELD"] and os.environ["NAMED"]
    assert open("/srv/done").read() == "well\\n"
    for file in ("environ", "cmdline"):
        with open(f"/proc/1/{file}", "rb") as started_with:
            assert os.environ["TOKEN"].encode() not in started_with.read()


@inside
def test_leaks(record_property):
    token = os.environ["TOKEN"]
    print("out", token, json.dumps(token))
    print("err", base64.b64encode(f"user:{token}".encode()), file=sys.stderr)
    subprocess.run(["sh", "-c", 'set -x; echo "$TOKEN" >&2'])
    warnings.warn(f"warned of {token}")
    record_property("token", token)
    assert {"expected": token} == {"expected": "nothing " + token, "more": [token] * 3}


@inside
def test_long():
    text = os.environ["TOKEN"] + 300 * "-" + os.environ["TOKEN"]
    assert text == ""


@inside
def test_past_the_capture(capfd):
    with capfd.disabled():
        for part in ("live ", os.environ["TOKEN"][:11], os.environ["TOKEN"][11:], "\\n"):
            os.write(1, part.encode())


@inside
def test_skips():
    pytest.skip("no " + os.environ["TOKEN"])


@inside
def test_in_a_thread():
    thread = threading.Thread(target=lambda: {}[os.environ["TOKEN"]])
    thread.start()
    thread.join()


@inside
def test_dies():
    os.write(2, ("last words " + os.environ["TOKEN"]).encode())
    os._exit(3)


@pytest.mark.image(printing)
def test_without():
    assert not {"TOKEN", "HELD", "NAMED", "PASSWORD"} & set(os.environ)
"""

EXPECTED = {
    "test_image": "PASSED",
    **dict.fromkeys(("failing", "cut"), "FAILED"),
    "test_in_failing": "ERROR",
    "test_has_them": "PASSED",
    "test_leaks": "FAILED",
    "test_long": "FAILED",
    "test_past_the_capture": "PASSED",
    "test_skips": "SKIPPED",
    "test_in_a_thread": "PASSED",
    "test_dies": "FAILED",
    "test_without": "PASSED",
}


class Proof:
    """A project with values that nothing else has, and where they may not be found."""

    def __init__(self, home: Path, engine: EngineUnderTest, base: OwnBase, nonce: str) -> None:
        self.project = Inner(home, engine)
        self.engine = engine
        # As long as keys are; with what needs quotes and escapes.
        self.values = {
            name: f"{name}-{_random()[:16]}'\"/+%{_random()[16:]}-{name[::-1]}" for name in ("token", "held", "named")
        }
        self.password = f"password-{_random()}"
        self.nonce = nonce
        self.mark = nonce[:12]
        """What every step of the image has in its name."""
        self._base = base
        self._outside = home / "outside"

    def write(self, index: str) -> None:
        text = PROJECT.replace("@base@", self._base.reference).replace("@nonce@", self.nonce)
        text = text.replace("@index@", index).replace("@mark@", self.mark)
        self.project.write({"pytest.ini": "[pytest]\n", ".gitignore": ".*.env\n", "test_it.py": text})
        url = f"http://reader:{self.password}@{index}/simple/"
        self._outside.mkdir()
        # It is looked for from the working directory up, so it lies beside the project.
        self.dotenv = self.project.home / "login.env"
        self.dotenv.write_text(f"PASSWORD={self.password}\nPIP_INDEX_URL={url}\nUV_DEFAULT_INDEX={url}\n")
        secrets = self._outside / "secrets.toml"
        secrets.write_text(f"[service]\nNAMED = {json.dumps(self.values['named'])}\n")
        secrets.chmod(0o600)
        self.project.environment.update(
            TOKEN=self.values["token"],
            HELD_BY_HOST=self.values["held"],
            IMAGEBUILD_SECRETS_FILE=str(secrets),
            PIP_TRUSTED_HOST=index.partition(":")[0],
        )

    def run(self, *arguments: str) -> Ran:
        return self.project.run("-rA", "--junitxml=report.xml", "-o", "junit_logging=all", *arguments)

    @property
    def traces(self) -> list[str]:
        """What would tell a value, in whatever form a program wrote it, or a half of it."""
        return [trace for value in (*self.values.values(), self.password) for trace in _traces(value)]

    def found(self, chunks: Iterable[bytes]) -> list[str]:
        return holds(chunks, *self.traces)

    def files(self) -> Iterator[Path]:
        """Yield every file that runs may have written: of the project, of the cache, of the embedded engine's store."""
        for folder in (self.project.folder, self.engine.cache_dir, self.project.home):
            for path in sorted(folder.rglob("*")):
                if (
                    path.is_file()
                    and not path.is_symlink()
                    and path != self.dotenv
                    and self._outside not in path.parents
                ):
                    yield path


def _random() -> str:
    # Not the nonce of the test, which the names of its base and its layers have.
    return uuid.uuid4().hex


def _traces(value: str) -> Iterator[str]:
    # The parts beside the special characters are the same however a program writes these.
    yield from re.findall(r"[\w-]{16,}", value)
    # Of each alignment, without what depends on the neighbours.
    for before in range(3):
        yield base64.b64encode(bytes(before) + value.encode()).decode()[4:36]


@pytest.fixture
def proof(tmp_path: Path, engine: EngineUnderTest, base: OwnBase, nonce: str) -> Proof:
    return Proof(tmp_path, engine, base, nonce)


def test_a_value_is_nowhere_after_builds_and_tests_that_used_and_printed_it(proof: Proof) -> None:
    host = proof.engine.host_address
    with PackageIndex(host, login=f"reader:{proof.password}") as index:
        for name in ("first", "second", "third", "fourth"):
            index.publish(f"{name}{proof.mark}", "1.0")
        proof.write(index.address)
        runs = [proof.run("-v", "--showlocals")]
        proof.engine.remove_layers(proof.nonce)
        # From the lockfile now.
        runs.append(proof.run("-vv", "--color=yes"))
        runs.append(proof.run("-s", "-p", "no:logging"))
        locked = (proof.project.folder / "imagebuild.lock").read_text()
        fetched = {visit.path.partition("-1.0")[0].rpartition("/")[2] for visit in index.visits}
        assert {f"{name}{proof.mark}" for name in ("first", "second", "third", "fourth")} <= fetched

    named = {re.sub(r".*\[(.*)\]$", r"\1", name): outcome for name, outcome in outcomes(runs[0]).items()}
    assert named == EXPECTED, runs[0].text
    for ran in runs:
        assert "***" in ran.out
        assert proof.found([ran.out.encode(), b"\n", ran.err.encode()]) == [], ran.text
    assert "before ***" in runs[0].out
    assert "last words ***" in runs[2].text
    assert "live ***" in runs[2].out
    assert re.search(rf'url = "http://{re.escape(host)}:\d+/files/fourth{proof.mark}/fourth', locked), locked
    [reference] = re.findall(r"^layer (\S+)$", runs[0].out + runs[1].out, re.MULTILINE)[-1:]
    layers = proof.engine.layers(proof.mark).values()
    assert len(layers) == 5
    assert [layer for layer in layers if proof.found([proof.engine.image_description(layer).encode()])] == []
    assert holds(proof.engine.image_bytes(reference), proof.nonce, *proof.traces) == [proof.nonce]
    assert [path for path in proof.files() if proof.found([os.fsencode(path.name), _content(path)])] == []
    assert proof.found([(proof.project.folder / "report.xml").read_bytes()]) == []


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_a_secret_that_is_missing_fails_the_tests_that_ask_for_it_at_its_line(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    project = Inner(tmp_path, engine).write(
        {
            "pytest.ini": "[pytest]\n",
            "test_it.py": """
                import pytest
                from pytest_imagebuild import Image, Secret

                IMAGE = Image.from_registry("python:3.13-slim-trixie")
                MISSING = Secret.from_local_environ(["NO_SUCH_TOKEN"])

                @pytest.mark.image(IMAGE, secrets=[MISSING])
                def test_with(): pass

                @pytest.mark.image(IMAGE)
                def test_without(): pass
                """,
        }
    )
    ran = project.run("-v")
    assert outcomes(ran) == {"test_with": "ERROR", "test_without": "PASSED"}, ran.text
    assert (
        f'{project.folder}/test_it.py:5: Secret.from_local_environ(["NO_SUCH_TOKEN"]) found no NO_SUCH_TOKEN in the '
        "environment of pytest. Set what is missing before pytest starts."
    ) in ran.out


def test_the_marker_takes_env_over_secrets_and_gives_sessions_with_other_values_their_own(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    project = Inner(tmp_path, engine).write(
        {
            "pytest.ini": "[pytest]\n",
            "test_it.py": """
                import os
                import pytest
                from pytest_imagebuild import Image, Secret

                IMAGE = Image.from_registry("python:3.13-slim-trixie")

                @pytest.mark.image(IMAGE, secrets=[Secret.from_dict({"A": "one", "B": "one"})], env={"B": "env"})
                def test_one(): assert (os.environ["A"], os.environ["B"]) == ("one", "env")

                @pytest.mark.image(IMAGE, secrets=[Secret.from_dict({"A": "two", "B": "two"})], env={"B": "env"})
                def test_two(): assert (os.environ["A"], os.environ["B"]) == ("two", "env")
                """,
        }
    )
    ran = project.run("-v")
    assert outcomes(ran) == {"test_one": "PASSED", "test_two": "PASSED"}, ran.text

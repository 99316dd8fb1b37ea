"""A worker has the secrets of its session; nothing that it tells does."""

from __future__ import annotations

import pytest
from live_worker import Makes

from pytest_imagebuild.session.session import WorkerDied, WorkerFailedToStart

VALUE = 't0ken-"4711"-abcdefghijklmnop'
SECRETS = {"TOKEN": VALUE}

TELLS = """
    import base64, logging, os, subprocess, sys, warnings
    import pytest

    TOKEN = os.environ["TOKEN"]

    def test_has_it():
        assert TOKEN == 't0ken-"' + '4711"-abcdefghijklmnop'
        assert subprocess.run([sys.executable, "-c", "import os; print(os.environ['TOKEN'])"], capture_output=True,
            text=True).stdout.strip() == TOKEN

    def test_compares():
        assert {"a": TOKEN} == {"a": "x" + TOKEN}

    def test_compares_lines():
        assert f"one {TOKEN} two" == f"one {TOKEN} three"

    def test_raises():
        secret = TOKEN
        raise ValueError(f"cannot log in with {secret!r} {base64.b64encode(secret.encode())}")

    def test_is_long():
        text = TOKEN + "x" * 400 + TOKEN
        assert text == 1

    def test_prints(record_property):
        print("out", TOKEN)
        print("err", TOKEN, file=sys.stderr)
        logging.getLogger("x").warning("log %s", TOKEN)
        warnings.warn(f"warned {TOKEN}")
        record_property("token", TOKEN)
        assert 0

    def test_skips():
        pytest.skip(f"no {TOKEN}")

    def test_fails_in_its_fixture(request):
        request.addfinalizer(lambda: pytest.fail(f"end {TOKEN}"))

    def test_writes_in_parts():
        for part in ("out ", TOKEN[:9], TOKEN[9:20], TOKEN[20:], "\\n"):
            os.write(2, part.encode())

    def test_dies():
        os.write(2, f"last words {TOKEN}\\n".encode())
        os._exit(3)
"""
NAMES = [line.split("(")[0].split()[-1] for line in TELLS.splitlines() if line.startswith("    def test_")]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "test_dies"])
@pytest.mark.parametrize("capture", ["fd", "no"])
def test_no_message_has_a_value(worker: Makes, name: str, capture: str) -> None:
    options = {"capture": capture, "showlocals": True, "verbose": 2 if capture == "fd" else 0, "color": "yes"}
    it = worker(TELLS).start(secrets=SECRETS, options=options)
    run = it.run(f"test_it.py::{name}")
    everything = str([*run.messages, *it.finish()])
    if name == "test_has_it":
        assert set(run.outcomes.values()) == {"passed"}
        return
    assert "***" in everything
    for piece in (VALUE, "abcdefghijklmnop", '4711"-abcd', "t0ken-"):
        assert piece not in everything


def test_what_a_dead_worker_said_last_has_no_value(worker: Makes) -> None:
    it = worker(TELLS).start(secrets=SECRETS, options={"capture": "no"})
    with pytest.raises(WorkerDied) as caught:
        it.run("test_it.py::test_dies")
    assert caught.value.output == "last words ***\n"


def test_a_conftest_file_that_fails_tells_no_value(worker: Makes) -> None:
    files = {"conftest.py": "import os\nraise RuntimeError(os.environ['TOKEN'])\n", "test_it.py": "def test(): pass\n"}
    it = worker(files).start(secrets=SECRETS)
    with pytest.raises(WorkerFailedToStart) as caught:
        it.run("test_it.py::test")
    assert "RuntimeError: ***" in str(caught.value)
    assert VALUE not in str(caught.value)


def test_a_test_file_that_fails_tells_no_value(worker: Makes) -> None:
    it = worker("import os\nraise RuntimeError(os.environ['TOKEN'])\n").start(secrets=SECRETS)
    run = it.run("test_it.py::test")
    assert "RuntimeError: ***" in run.missing.reason
    assert VALUE not in str(run.messages) + str(it.session.collected)

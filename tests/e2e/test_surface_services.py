"""Fixtures of the host: images that a test builds, and services in containers that a test talks to."""

from __future__ import annotations

import pytest
from engines import EngineUnderTest
from inner import Inner, Ran, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        SERVER = IMAGE.run_commands("mkdir /srv/www && echo hello > /srv/www/index.html")
        FAILS = IMAGE.run_commands("exit 9")
        """,
    "test_services.py": """
        import os
        import time
        import urllib.request

        import pytest
        from images import FAILS, IMAGE, SERVER


        @pytest.fixture(scope="module")
        def server(image_container):
            command = ["python3", "-u", "-m", "http.server", "--directory", "/srv/www", "8000"]
            return image_container(SERVER, command=command, ports=[8000], env={"GREETING": "from env="})


        def get(server, path="/"):
            host, port = server.port(8000)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            end = time.monotonic() + 30
            while True:
                try:
                    with opener.open(f"http://{host}:{port}{path}", timeout=10) as answer:
                        return answer.read().decode()
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)


        def test_port(server):
            assert get(server) == "hello\\n"


        def test_logs(server):
            get(server, "/index.html")
            # The engine copies what the service writes into its log a moment after the answer is here.
            end = time.monotonic() + 30
            while "GET /index.html" not in server.logs() and time.monotonic() < end:
                time.sleep(0.05)
            assert "GET /index.html" in server.logs()


        def test_exec(server):
            done = server.exec(["sh", "-c", 'echo "$GREETING $MORE"; echo oops >&2; exit 4'], environment={"MORE": "x"})
            assert (done.exit_code, done.stdout, done.stderr) == (4, b"from env= x\\n", b"oops\\n")


        def test_write_and_read(server):
            server.write("/srv/www/new/page.html", b"a page", mode=0o644)
            assert get(server, "/new/page.html") == "a page"
            assert server.read("/srv/www/index.html") == b"hello\\n"
            with pytest.raises(FileNotFoundError):
                server.read("/no/such/file")


        def test_image_build(image_build):
            built = image_build(SERVER)
            assert len(built.key) == 64
            assert image_build(SERVER) == built
            print("built", built.key, built.reference)


        def test_two_at_once(image_container):
            one, other = (image_container(IMAGE, command=["sleep", "60"]) for _ in range(2))
            one.write("/mark", b"one")
            with pytest.raises(FileNotFoundError):
                other.read("/mark")
            one.stop()
            one.stop()


        def test_build_fails(image_build):
            image_build(FAILS)


        def test_command_in_one_string(image_container):
            image_container(IMAGE, command="sleep 60")


        def test_what_is_no_image(image_build):
            image_build("debian:trixie")


        def test_port_that_is_not_published(server):
            server.port(1234)


        """,
    "test_wrong_side.py": """
        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        def test_inside(image_container):
            pass
        """,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, engine: EngineUnderTest) -> Ran:
    return Inner(tmp_path_factory.mktemp("services"), engine).write(PROJECT).run("-v", "-rA", "-W", "error")


@pytest.mark.parametrize(
    "name",
    [
        "test_port",
        "test_logs",
        "test_exec",
        "test_write_and_read",
        "test_image_build",
        "test_two_at_once",
    ],
)
def test_on_the_host(served: Ran, name: str) -> None:
    assert outcomes(served)[name] == "PASSED", failure_of(served, name)


def test_the_reference_of_an_image_is_what_the_engine_knows_it_by(served: Ran, engine: EngineUnderTest) -> None:
    (said,) = (line.split() for line in served.lines if line.startswith("built "))
    assert engine.key_of(said[2]) == said[1]


def test_a_failed_build_is_shown_where_the_test_asked_for_it(served: Ran) -> None:
    shown = failure_of(served, "test_build_fails")
    assert "images.py:5: run_commands" in shown
    assert "command: exit 9" in shown
    assert "exit code: 9" in shown
    assert "pytest_imagebuild/" not in shown
    assert len(shown.splitlines()) < 30


def test_a_command_in_one_string_says_how_to_write_it(served: Ran) -> None:
    shown = failure_of(served, "test_command_in_one_string")
    assert 'Write command=["sh", "-c", \'sleep 60\'] to run it in a shell.' in shown
    assert "pytest_imagebuild/" not in shown


def test_what_is_no_image_is_refused(served: Ran) -> None:
    shown = failure_of(served, "test_what_is_no_image")
    assert "image_build takes an Image, found str 'debian:trixie'." in shown
    assert "pytest_imagebuild/" not in shown


def test_a_build_that_a_test_waits_for_is_seen(served: Ran) -> None:
    assert 'imagebuild: python-3.13-slim-trixie: run_commands("exit 9"): FAILED' in served.lines
    assert "Captured stdout" not in failure_of(served, "test_build_fails")


def test_a_port_that_is_not_published_says_so(served: Ran) -> None:
    assert "port 1234 of the container is not published" in failure_of(served, "test_port_that_is_not_published")


def test_a_service_cannot_be_started_from_inside(served: Ran) -> None:
    assert outcomes(served)["test_inside"] == "ERROR"
    assert "image_container is a fixture of the host and cannot be used inside a container" in served.out


def test_services_are_gone_after_the_run(served: Ran, engine: EngineUnderTest) -> None:
    assert outcomes(served)["test_port"] == "PASSED"
    assert engine.containers() == []

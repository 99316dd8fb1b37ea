"""Fixtures of the host, for tests in containers: their values go in, their scope and their end stay outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import EngineUnderTest
from inner import Inner, failure_of, outcomes

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        """,
    "conftest.py": """
        import os
        import threading

        import pytest
        from pytest_imagebuild import host_fixture


        def note(text):
            with open("events.txt", "a") as file:
                print(text, file=file)


        @pytest.fixture(scope="session")
        def greeting():
            assert "IMAGEBUILD_IMAGE" not in os.environ
            return b"hello from the host"


        @host_fixture(scope="session")
        def service(greeting):
            \"\"\"A service on the host.\"\"\"
            from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(greeting)

            server = ThreadingHTTPServer(("", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            note("service +")
            print("said while the service was set up")
            yield {"port": server.server_address[1], "tags": ["a", None, 1.5]}
            server.shutdown()
            note("service -")


        @host_fixture(scope="module")
        def table(request, service):
            note(f"table + {request.node.name}")
            yield f"table of {request.node.name}"
            note(f"table - {request.node.name}")


        @host_fixture
        def row(request):
            note(f"row + {request.node.name}")
            yield request.node.name
            note(f"row - {request.node.name}")


        @host_fixture(name="renamed")
        def other_name():
            return 3


        @host_fixture
        def skips():
            pytest.skip("the host has none")


        @host_fixture
        def fails():
            raise ValueError("no service to be had")


        @host_fixture
        def gives_an_object():
            return object()


        @host_fixture
        def gives_a_tuple():
            return (1, 2)


        @host_fixture
        def fails_at_its_end():
            yield 1
            raise RuntimeError("no end")
        """,
    "test_one.py": """
        import os
        import urllib.request

        import pytest
        from images import IMAGE


        def get(host, port):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(f"http://{host}:{port}/", timeout=10).read()


        @pytest.mark.image(IMAGE)
        class TestInside:
            def test_reaches_the_service(self, service, image_host):
                assert "IMAGEBUILD_IMAGE" in os.environ
                assert get(image_host, service["port"]) == b"hello from the host"
                assert service["tags"] == ["a", None, 1.5]

            def test_rows(self, row, table, renamed):
                assert (row, table, renamed) == ("test_rows", "table of test_one.py", 3)

            @pytest.mark.parametrize("number", [1, 2])
            def test_more_rows(self, row, table, number):
                assert row == f"test_more_rows[{number}]"

            def test_skips(self, skips):
                pass

            def test_fails(self, fails):
                pass

            def test_object(self, gives_an_object):
                pass

            def test_tuple(self, gives_a_tuple):
                pass

            def test_end(self, fails_at_its_end):
                assert fails_at_its_end == 1

            @pytest.mark.image(IMAGE, isolation="test")
            def test_isolated(self, service, row, image_host):
                assert get(image_host, service["port"]) == b"hello from the host"

            @pytest.mark.image(IMAGE, network=False)
            def test_without_a_network(self, image_host):
                pass


        def test_on_the_host(service, row, image_host):
            assert get(image_host, service["port"]) == b"hello from the host"
        """,
    "test_two.py": """
        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE)
        def test_two(table):
            assert table == "table of test_two.py"
        """,
}


@pytest.fixture
def inner(tmp_path: Path, engine: EngineUnderTest) -> Inner:
    return Inner(tmp_path, engine).write(PROJECT)


def events(inner: Inner) -> list[str]:
    return (inner.folder / "events.txt").read_text("utf-8").split("\n")[:-1]


def test_values_scopes_and_ends(inner: Inner) -> None:
    ran = inner.run("-v", "-rA", "-p", "no:randomly")
    found = outcomes(ran)
    passed = {
        "TestInside::test_reaches_the_service",
        "TestInside::test_rows",
        "TestInside::test_more_rows[1]",
        "TestInside::test_more_rows[2]",
        "TestInside::test_isolated",
        "test_on_the_host",
        "test_two",
    }
    assert {name for name, outcome in found.items() if outcome == "PASSED"} >= passed, ran.text
    assert found["TestInside::test_skips"] == "SKIPPED"
    assert "the host has none" in ran.out
    for name in ("fails", "object", "tuple", "without_a_network"):
        assert found[f"TestInside::test_{name}"] == "ERROR", name
    assert events(inner) == [
        "service +",
        "table + test_one.py",
        "row + test_rows",
        "row - test_rows",
        "row + test_more_rows[1]",
        "row - test_more_rows[1]",
        "row + test_more_rows[2]",
        "row - test_more_rows[2]",
        "row + test_isolated",
        "row - test_isolated",
        "row + test_on_the_host",
        "row - test_on_the_host",
        "table - test_one.py",
        "table + test_two.py",
        "table - test_two.py",
        "service -",
    ]


def test_what_goes_wrong_on_the_host_is_told(inner: Inner) -> None:
    ran = inner.run("-v", "test_one.py", "-k", "fails or object or tuple or end or network")
    assert "The fixture 'fails' failed on the host." in ran.out, ran.text
    assert 'raise ValueError("no service to be had")' in ran.out
    assert "ValueError: no service to be had" in failure_of(ran, "TestInside.test_fails")
    assert "The fixture 'gives_an_object' gave object '<object object at 0x" in ran.out
    assert (
        "The fixture 'gives_a_tuple' gave tuple '(1, 2)' on the host, which cannot be handed into a container."
        in ran.out
    )
    assert "ERROR at teardown of TestInside.test_end" in ran.out
    assert "RuntimeError: no end" in ran.out
    assert "The host cannot be reached from this container: it has no network." in ran.out


def test_xdist_workers_have_fixtures_of_their_own(inner: Inner) -> None:
    ran = inner.run("-n2", "-v", "-k", "reaches or two or isolated or on_the_host")
    assert "4 passed" in ran.out, ran.text
    assert events(inner).count("service +") == events(inner).count("service -") > 0


def test_a_suite_in_an_image_has_them_too(inner: Inner) -> None:
    inner.write(
        {
            "test_one.py": """
                import os
                import urllib.request


                def test_reaches_the_service(service, image_host, row):
                    assert "IMAGEBUILD_IMAGE" in os.environ
                    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                    url = f"http://{image_host}:{service['port']}/"
                    assert opener.open(url, timeout=10).read() == b"hello from the host"


                def test_module(table):
                    pass
                """
        }
    )
    ran = inner.run("-v", "--image=images.py:IMAGE", "test_one.py")
    assert outcomes(ran) == {"test_reaches_the_service": "PASSED", "test_module": "ERROR"}, ran.text
    assert "The fixture 'table' has the scope 'module'" in ran.out
    assert events(inner) == [
        "service +",
        "row + test_reaches_the_service",
        "row - test_reaches_the_service",
        "service -",
    ]


def test_no_image_makes_them_fixtures_like_any_other(inner: Inner) -> None:
    ran = inner.run("-q", "--no-image", "-k", "rows or test_two or on_the_host")
    assert "5 passed" in ran.out, ran.text

# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""What a worker says about items that it cannot find."""

from __future__ import annotations

from live_worker import Makes


def test_a_file_that_cannot_be_imported_gives_its_error_for_each_item(worker: Makes) -> None:
    live = worker(
        {
            "test_bad.py": "import no_such_thing\ndef test_it(): pass",
            "test_good.py": "def test_it(): pass",
        }
    ).start(options={"maxfail": 1})

    missing = live.run("test_bad.py::test_it").missing
    assert missing.outcome == "failed"
    assert "ModuleNotFoundError: No module named 'no_such_thing'" in missing.reason
    assert live.run("test_good.py::test_it").outcomes["call"] == "passed"
    assert [error.nodeid for error in live.session.collected.errors] == ["test_bad.py"]


def test_a_file_that_skips_itself_gives_its_reason(worker: Makes) -> None:
    live = worker("import pytest\npytest.skip('not here', allow_module_level=True)\ndef test_it(): pass").start()

    missing = live.run("test_it.py::test_it").missing
    assert (missing.outcome, missing.reason) == ("skipped", "Skipped: not here")


def test_a_class_that_cannot_be_collected_gives_its_error(worker: Makes) -> None:
    live = worker(
        """
        import pytest

        class TestBad:
            @pytest.mark.parametrize("missing", [1])
            def test_it(self) -> None:
                pass
        """
    ).start()

    missing = live.run("test_it.py::TestBad::test_it[1]").missing
    assert missing.outcome == "failed"
    assert "function uses no argument 'missing'" in missing.reason


def test_an_item_that_is_not_there_is_missing(worker: Makes) -> None:
    live = worker("def test_it(): pass").start()

    missing = live.run("test_it.py::test_that").missing
    assert (missing.outcome, missing.reason) == (
        "failed",
        "pytest in the container did not find test_it.py::test_that.",
    )


def test_a_file_that_is_not_there_says_so(worker: Makes) -> None:
    live = worker("def test_it(): pass").start(collect=("test_it.py", "test_gone.py::test_it"))

    assert "test_gone.py is not in the container" in live.run("test_gone.py::test_it").missing.reason
    assert live.run("test_it.py::test_it").outcomes["call"] == "passed"


def test_a_file_that_nothing_collects_does_not_stop_the_others(worker: Makes) -> None:
    live = worker({"test_it.py": "def test_it(): pass", "data.txt": "x"}).start(collect=("data.txt", "test_it.py"))

    assert live.run("data.txt::test_it").missing.outcome == "failed"
    assert live.run("test_it.py::test_it").outcomes["call"] == "passed"


def test_an_item_runs_even_if_the_container_deselects_it(worker: Makes) -> None:
    live = worker(
        {
            "conftest.py": "def pytest_collection_modifyitems(items): items.clear()",
            "test_it.py": "def test_it(): pass",
        }
    ).start()

    assert live.run("test_it.py::test_it").outcomes["call"] == "passed"


def test_a_conftest_file_of_a_folder_that_cannot_be_imported_gives_its_error(worker: Makes) -> None:
    live = worker(
        {
            "sub/conftest.py": "import no_such_thing",
            "sub/test_it.py": "def test_it(): pass",
        }
    ).start()

    missing = live.run("sub/test_it.py::test_it").missing
    assert missing.outcome == "failed"
    assert "no_such_thing" in missing.reason

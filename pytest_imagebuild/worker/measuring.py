"""Coverage of what runs here, measured for the controller's pytest-cov, which reports it.

Runs in the container: imports the standard library and pytest only, and the image's own coverage if it is asked to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

__all__ = ["MISSING", "Measuring"]

MISSING = (
    "coverage is not installed in the image, so --cov sees nothing of what runs inside. "
    'Add it to the image: .uv_pip_install("coverage").'
)
_FILES_AT_ONCE = 20


class Measuring:
    """Measures from the first conftest file on. `settings` are those of pytest-cov on the host."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import coverage  # noqa: PLC0415 - only an image that measures has it

        self._folder = Path(tempfile.mkdtemp(prefix="imagebuild-coverage-"))
        self._data = coverage.CoverageData
        self._contexts = settings["contexts"]
        self._coverage = coverage.Coverage(
            data_file=str(self._folder / ".coverage"),
            data_suffix=True,
            source=settings["source"],
            branch=settings["branch"],
            config_file=settings["config"],
        )
        # The container may see nothing of what the other tests of the run import.
        self._coverage._warn_no_data = self._coverage._warn_unimported_source = False  # noqa: SLF001 - as pytest-cov does
        self._coverage.start()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Say in which test a line ran, for `--cov-context=test`."""
        self._switch(item, "setup")

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Say in which test a line ran."""
        self._switch(item, "teardown")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Say in which test a line ran, and leave out the tests that want to be left out."""
        self._switch(item, "run")
        if item.get_closest_marker("no_cover") is None and "no_cover" not in getattr(item, "fixturenames", ()):
            yield
            return
        self._coverage.stop()
        yield
        self._coverage.start()

    def messages(self) -> Iterator[dict[str, Any]]:
        """End the measurement; yield what was measured here and in child processes that coverage measured."""
        self._coverage.stop()
        self._coverage.save()
        for path in sorted(self._folder.glob(".coverage*")):
            data = self._data(basename=str(path))
            data.read()
            for context in sorted(data.measured_contexts()):
                data.set_query_context(context)
                files = iter(sorted(data.measured_files()))
                while some := list(islice(files, _FILES_AT_ONCE)):
                    yield _message(data, context, some)

    def _switch(self, item: pytest.Item, when: str) -> None:
        if self._contexts:
            self._coverage.switch_context(f"{item.nodeid}|{when}")


def _message(data: Any, context: str, files: list[str]) -> dict[str, Any]:
    has_arcs = data.has_arcs()
    arcs = {file: [line for arc in data.arcs(file) or () for line in arc] for file in files if has_arcs}
    lines = arcs or {file: data.lines(file) or [] for file in files}
    tracers = {file: tracer for file in files if (tracer := data.file_tracer(file))}
    return {"type": "coverage", "context": context, "arcs": has_arcs, "files": lines, "tracers": tracers}


@pytest.fixture
def no_cover() -> None:
    """Leave the test out of the measurement, as pytest-cov's fixture of that name does."""

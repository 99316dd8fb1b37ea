"""What a run of pytest in this folder would use: the command takes its options, and collects its images."""

from __future__ import annotations

import argparse
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field

import pytest

from pytest_imagebuild.dispatch.definitions import images_in
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options

__all__ = ["Probe", "opened", "options_of", "probe"]

OUTPUT_LINES = 20


@dataclass(eq=False)  # pytest keeps plugins in sets
class Probe:
    """A pytest plugin that notes what a run of pytest in this folder would use."""

    collect: bool
    images: list[Image] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    options: Options = field(init=False)
    _items: list[pytest.Item] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        """Note the options; go on only to collect."""
        self.options = Options.from_config(config)
        return None if self.collect else 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the tests before some are deselected, as by `-m "not slow"` in the ini file."""
        self._items = list(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the images."""
        self.images = images_in(dict.fromkeys([*self._items, *session.items]), session.config)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self.failures.append(report.longreprtext)


def probe(parsed: argparse.Namespace, *, collect: bool = False) -> Probe:
    """Let pytest read its configuration here, and collect if told to; raise pytest.UsageError if it cannot."""
    found = Probe(collect=collect)
    arguments = ["--collect-only", "-q", *(getattr(parsed, "path", None) or [])]
    if getattr(parsed, "engine", None):
        arguments.append(f"--image-engine={parsed.engine}")
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(arguments, plugins=[found])
    if not hasattr(found, "options"):
        raise pytest.UsageError(
            f"pytest cannot be configured here (exit code {int(code)}); run `pytest --co` to see why."
        )
    if found.failures:
        listed = "\n".join(found.failures)
        raise pytest.UsageError(f"the tests cannot be collected, so it is not known which images they use:\n{listed}")
    if collect and code != pytest.ExitCode.OK:
        end = "\n".join(said.getvalue().rstrip().splitlines()[-OUTPUT_LINES:])
        raise pytest.UsageError(
            f"pytest collects no tests here (exit code {int(code)}), so it is not known which images they use:\n{end}"
        )
    return found


def options_of(parsed: argparse.Namespace) -> Options:
    """Return the options of a run of pytest here, with the engine that the command was given."""
    return probe(parsed).options


@contextmanager
def opened(options: Options) -> Iterator[Engine]:
    """Open the engine for what needs no images."""
    engine = choose_engine(options.engine, run=uuid.uuid4().hex, cache_dir=options.cache_dir)
    try:
        yield engine
    finally:
        engine.close()

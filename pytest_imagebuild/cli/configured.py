"""What a run of pytest in this folder would use: the command takes its options, and collects its images."""

from __future__ import annotations

import argparse
import io
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_imagebuild.dispatch.definitions import images_in
from pytest_imagebuild.dispatch.governed.conftests import tolerate
from pytest_imagebuild.dispatch.governed.places import Places
from pytest_imagebuild.dispatch.invocation import parsed_so_far
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options, named_images
from pytest_imagebuild.worker.arguments import accept, unread

__all__ = ["Probe", "opened", "options_of", "probe"]

OUTPUT_LINES = 20
_PLUGIN = "pytest_imagebuild.plugin"


@dataclass(eq=False)  # pytest keeps plugins in sets
class Probe:
    """A pytest plugin that notes what a run of pytest in this folder would use."""

    collect: bool
    images: list[Image] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    options: Options = field(init=False)
    _items: list[pytest.Item] = field(default_factory=list)
    _root: Path = field(init=False)
    _places: Places = field(default_factory=lambda: Places([]))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(
        self, early_config: pytest.Config, parser: pytest.Parser, args: list[str]
    ) -> Generator[None, object, object]:
        """Note the images of folders; pass over what only they know, as nothing runs in them."""
        _bring_plugin(early_config, parser, args)
        with parsed_so_far(early_config):
            self._places = Places.load(named_images(early_config))
        tolerate(early_config.pluginmanager, self._places)
        result = yield
        if list(self._places):
            unknown = unread(parser, args, early_config.known_args_namespace)
            foreign = [_described(flag.partition("=")[0]) for flag in unknown]
            accept(parser, foreign, early_config.inicfg)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        """Note the options; go on only to collect."""
        self.options = Options.from_config(config)
        self._root = config.rootpath
        return None if self.collect else 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the tests before some are deselected, as by `-m "not slow"` in the ini file."""
        self._items = list(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the images."""
        found = images_in(dict.fromkeys([*self._items, *session.items]), session.config)
        self.images = list(dict.fromkeys([*found, *(place.key.image for place in self._places)]))

    @property
    def has_places(self) -> bool:
        """Whether tests run in images that they do not name themselves."""
        return bool(list(self._places))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected. What is collected inside need not be collected here."""
        if report.failed and not self._places.of(self._root / report.nodeid.partition("::")[0]):
            self.failures.append(report.longreprtext)


def probe(parsed: argparse.Namespace, *, collect: bool = False) -> Probe:
    """Let pytest read its configuration here, and collect if told to; raise pytest.UsageError if it cannot."""
    found = Probe(collect=collect)
    arguments = ["--collect-only", "--no-image", "-q", *(getattr(parsed, "path", None) or [])]
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
    if collect and code != pytest.ExitCode.OK and not found.has_places:
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


def _bring_plugin(config: pytest.Config, parser: pytest.Parser, args: Sequence[str]) -> None:
    """Load the plugin itself where pytest does not: without entry points, or with `-p no:imagebuild`."""
    manager = config.pluginmanager
    if not any(map(manager.has_plugin, ("imagebuild", _PLUGIN))):
        manager.import_plugin(_PLUGIN)
        config.known_args_namespace = parser.parse_known_args(args, namespace=config.known_args_namespace)


def _described(flag: str) -> dict[str, Any]:
    """Return an option of which nothing is known but its flag, as `worker.arguments` describes options."""
    name = "foreign_" + "".join(letter if letter.isalnum() else "_" for letter in flag)
    return {"flags": [flag], "dest": name, "action": "store", "nargs": "?", "const": None}

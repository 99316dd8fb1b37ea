"""The collection of tests that run in an image without a marker: done inside, replayed here."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_imagebuild.dispatch.governed.conftests import guard, tolerate
from pytest_imagebuild.dispatch.governed.places import Place, Places
from pytest_imagebuild.dispatch.governed.proxies import Forest, ProxyDirectory, ProxyItem, ProxyReports
from pytest_imagebuild.dispatch.governed.proxy import Proxy
from pytest_imagebuild.dispatch.governed.tree import Tree
from pytest_imagebuild.dispatch.invocation import OwnRun, only_shows, own_arguments, parsed_so_far
from pytest_imagebuild.dispatch.replay import Replay
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.session.messages import Nodes
from pytest_imagebuild.session.session import Session, WorkerFailedToStart
from pytest_imagebuild.worker.arguments import accept, options, unread

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.run import Run

__all__ = ["GovernedCollection"]

_NOTHING_KNOWN = {"dest": "image_foreign", "action": "store", "nargs": "?", "const": None}
_HINT = (
    "A test in {path} has an image marker of its own, so this file must be importable on the host. Import what only "
    "the image has in a block `with image.imports():`."
)


class GovernedCollection:
    """A plugin of one run of pytest. `run` makes or returns what the run keeps for its images."""

    def __init__(self, config: pytest.Config, places: Places, run: Callable[[], Run]) -> None:
        self._config = config
        self._places = places
        self._run = run
        self._sessions: dict[Place, Session] = {}
        self._failures: dict[Place, str] = {}
        self._forest: Forest | None = None
        tolerate(config.pluginmanager, places)
        config.pluginmanager.register(ProxyReports())

    def read_arguments(self, parser: pytest.Parser, arguments: list[str], *, distributes: bool) -> None:
        """Let pytest read what plugins in the images have on the command line and in the ini file.

        A process that collects nothing itself ends what it has started for that. Raises pytest.UsageError.
        """
        namespace = self._config.known_args_namespace
        unknown = unread(parser, arguments, namespace)
        known = {*parser._inidict, *getattr(parser, "_ini_aliases", ())}  # noqa: SLF001 - pytest offers no list of them
        if not unknown and not set(self._config.inicfg) - known:
            return
        if namespace.showfixtures or namespace.show_fixtures_per_test:
            # The worker that tells says nothing else.
            unread_flags = [{**_NOTHING_KNOWN, "flags": [flag.partition("=")[0]]} for flag in unknown]
            accept(parser, unread_flags, self._config.inicfg)
            return
        with parsed_so_far(self._config):
            self._begin(list(self._places), parser)
        for place, session in list(self._sessions.items()):
            ready = self._configured(place, session)
            if ready is not None:
                accept(parser, *ready)
        if unknown and self._failures:
            raise pytest.UsageError(*self._failures.values())
        if distributes:
            self._run().end_begun()
            self._sessions.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_plugin_registered(self, plugin: object, manager: pytest.PytestPluginManager) -> None:
        """Keep stand-ins from the hooks of conftest files."""
        guard(plugin, manager, self._places)

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        """Let the images show their fixtures."""
        if not only_shows(config):
            return None
        self._begin([place for place in self._places if place not in self._sessions], config._parser)  # noqa: SLF001
        for place, session in self._sessions.items():
            if place.label:
                sys.stdout.write(f"inside {place.label}:\n")
            try:
                for message in session.shown():
                    (sys.stderr if message.stream == "stderr" else sys.stdout).write(message.data)
            except ImageBuildError as error:
                raise pytest.UsageError(str(error)) from error
        if self._failures:
            raise pytest.UsageError(*self._failures.values())
        return int(pytest.ExitCode.OK)

    # The outermost, as it shows the making of images.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Collect inside what the arguments of this run choose there."""
        chosen = {place: chosen for place in self._places if (chosen := self._chosen(place, session.config.args))}
        begun = {*self._sessions, *self._failures}
        self._begin([place for place in chosen if place not in begun], self._config._parser)  # noqa: SLF001
        for place, arguments in chosen.items():
            if place in self._sessions:
                self._run().collect(place.key, arguments)
        self._forest = Forest(places=self._places, trees={}, natives=set())
        for place in chosen:
            self._forest.trees[place] = self._collected(place, chosen[place])
        for tree in self._forest.trees.values():
            self._forest.natives.update(_with_own_images(tree))
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> ProxyDirectory | None:
        """Stand in for a folder whose tests run in an image."""
        return self._forest.directory(path, parent) if self._forest and self._places.of(path) else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Take from a file with tests of both kinds those that have images of their own."""
        report = yield
        if self._forest is None or isinstance(collector, Proxy) or collector.path not in self._forest.natives:
            return report
        if report.failed and isinstance(collector, pytest.Module):
            report.sections.append(("imagebuild", _HINT.format(path=collector.nodeid)))
        elif report.passed:
            report.result = [
                node
                for node in report.result
                if not isinstance(node, pytest.Item) or node.get_closest_marker("image") is not None
            ]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out and order items as conftest files and plugins have done inside."""
        left_out = [item for item in items if isinstance(item, ProxyItem) and item.node.deselected]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not isinstance(item, ProxyItem) or item.node.order is not None]
        if hasattr(config, "workerinput"):
            return  # xdist wants one order of all its workers, and a plugin that shuffles gives each its own
        for place in self._forest.trees if self._forest else ():
            slots = [number for number, item in enumerate(items) if isinstance(item, ProxyItem) and item.place == place]
            for slot, item in zip(slots, _in_order([items[slot] for slot in slots]), strict=True):
                items[slot] = item

    def pytest_report_collectionfinish(self) -> list[str]:
        """Return what plugins of the images would have put into the header."""
        lines = []
        for place, session in self._sessions.items():
            inside = f"inside {place.label}: " if place.label else "inside: "
            lines += [f"{inside}{line}" for line in (session.collected.header if session.collected else ())]
        return lines

    def _begin(self, places: Sequence[Place], parser: pytest.Parser) -> None:
        """Build the images of places and start their workers."""
        arguments, foreign = own_arguments(self._config), tuple(options(parser))
        wanted = {
            place.key: OwnRun(
                arguments=arguments,
                foreign_options=foreign,
                ignored=tuple(str(folder) for folder in self._places.below(place.folder)),
                shows=only_shows(self._config),
            )
            for place in places
        }
        if not wanted:
            return
        run = self._run()
        # Of a run that ends before it is configured, pytest tells nobody else.
        self._config.add_cleanup(run.close)
        begun = run.begin(wanted)
        for place in places:
            match begun[place.key]:
                case Session() as session:
                    self._sessions[place] = session
                case error:
                    self._failures[place] = str(error)

    def _configured(self, place: Place, session: Session) -> tuple[Sequence[Any], Sequence[str]] | None:
        try:
            ready = session.configured()
        except ImageBuildError as error:
            self._failures[place] = self._unless_alone(error)
            del self._sessions[place]
            return None
        return ready.options, ready.ini_keys

    def _unless_alone(self, error: ImageBuildError) -> str:
        """Return what is wrong with one of several images; with the only one, pytest cannot begin either."""
        if isinstance(error, WorkerFailedToStart) and len(list(self._places)) == 1:
            raise pytest.UsageError(str(error)) from error
        return str(error)

    def _chosen(self, place: Place, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return what a worker shall collect: the arguments that lie in its folder, or the folder if it is in one."""
        chosen = []
        for argument in arguments:
            path = Path(os.path.abspath(self._config.invocation_params.dir / argument.partition("::")[0]))  # noqa: PTH100 - links stay
            if place in self._places.of(path):
                chosen.append(argument)
            elif path in place.folder.parents and path.is_dir():
                chosen.append(str(place.folder))
        return tuple(dict.fromkeys(chosen)) if not self._config.getoption("keepduplicates") else tuple(chosen)

    def _collected(self, place: Place, arguments: Sequence[str]) -> Tree:
        """Return what a worker has collected. Raises pytest.UsageError, and what ends the run inside."""
        tree = Tree()
        session = self._sessions.get(place)
        if session is None:
            tree.failure = self._failures[place]
            return tree
        replay, console = Replay(self._config, {}), self._run().console
        try:
            for message in session.collection():
                if isinstance(message, Nodes):
                    tree.add(message.nodes)
                elif not console.hears(session, message):
                    replay.collection(message)
        except ImageBuildError as error:
            tree.failure = f"The tests could not be collected in the container.\n{self._unless_alone(error)}"
            return tree
        finally:
            console.take_back()
        for problem in session.collected.errors if session.collected else ():
            tree.lacks(self._config.rootpath / problem.nodeid, problem, arguments)
        return tree


def _in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return stand-ins in the order of what they stand for; of `--keep-duplicates`, each round by itself."""
    rounds: Counter[str] = Counter()
    placed = []
    for item in items:
        placed.append((rounds[item.nodeid], item.node.order or 0 if isinstance(item, ProxyItem) else 0, item))
        rounds[item.nodeid] += 1
    return [item for _, _, item in sorted(placed, key=lambda place: place[:2])]


def _with_own_images(tree: Tree) -> set[Path]:
    """Return the files that have tests with an image marker."""
    return {
        path
        for path, nodes in tree.files()
        if any(name == "image" for node in nodes for each in tree.everything(node) for name, _, _ in each.markers)
    }

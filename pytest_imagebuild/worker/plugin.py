"""The pytest plugin of the worker: it collects what it is told, runs items on request, sends reports.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

import linecache
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_imagebuild.worker import hosted
from pytest_imagebuild.worker.arguments import accept, ini_keys, options
from pytest_imagebuild.worker.channel import Requests, Wire
from pytest_imagebuild.worker.collected import CollectedTree
from pytest_imagebuild.worker.debugging import Debugging
from pytest_imagebuild.worker.interactive import Interactive, run_shell
from pytest_imagebuild.worker.junit import JUnitProperties
from pytest_imagebuild.worker.measuring import MISSING, Measuring
from pytest_imagebuild.worker.protocol import PROTOCOL
from pytest_imagebuild.worker.quiet import QuietReporter
from pytest_imagebuild.worker.supervisor import DUMP_SIGNAL
from pytest_imagebuild.worker.words import Words

if TYPE_CHECKING:
    from pytest_imagebuild.worker.isolation import Copies

__all__ = ["WorkerPlugin"]

_NODES_AT_ONCE = 200
_NO_COVERAGE = {
    "type": "warning",
    "when": "collect",
    "nodeid": "",
    "category": "UserWarning",
    "module": "builtins",
    "filename": "pytest-imagebuild",
    "lineno": 0,
    "line": None,
    "location": None,
}


class WorkerPlugin:
    """Serves the requests of the controller from inside a pytest session."""

    def __init__(self, setup: dict[str, Any], requests: Requests, wire: Wire, typed: int) -> None:
        self._setup = setup
        self._requests = requests
        self._wire = wire
        self._items: dict[str, pytest.Item] = {}
        self._uncollected: dict[str, tuple[str, str]] = {}
        self._finished = False
        self.served = False
        """Whether the controller has said that it has no more."""
        self._last: pytest.Item | None = None
        self._promised: pytest.Item | None = None
        self._round = 0
        self._waits = False
        self._copies: Copies | None = None
        self._tree = CollectedTree() if setup["describe"] else None
        self._known: dict[str, Any] = {"options": [], "ini_keys": []}
        self._words: Words | None = None
        self._interactive = Interactive(typed, self._ask_for_terminal, self._give_terminal_back)
        hosted.answer_with(self._ask)
        self._known_there: list[str] = []
        self.measuring: Measuring | None = None
        """What measures coverage, from the first conftest file on."""

    # The outermost: conftest files have options of their own.
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, parser: pytest.Parser) -> Generator[None, Any, None]:
        """Note what pytest can read here; let it read what only the controller knows. Begin to measure."""
        self.measuring = self._measuring()
        yield
        if self._tree is not None:
            self._known = {"options": options(parser), "ini_keys": ini_keys(parser)}
            accept(parser, self._setup["foreign_options"])

    def pytest_plugin_registered(self, plugin: object, manager: pytest.PytestPluginManager) -> None:
        """Accept hooks of plugins that are on the host only: the controller knows them all."""
        for hook in manager.get_hookcallers(plugin) or ():
            if not hook.has_spec():
                for implementation in hook.get_hookimpls():
                    implementation.optionalhook = True  # type: ignore[misc]

    # Last, so that it replaces whatever reporter the other plugins have put there.
    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Register what plugins of the host do, and let nobody report to the terminal."""
        for line in self._setup["markers"]:
            config.addinivalue_line("markers", line)
        for name in self._setup["ini_names"]:
            _register_ini(config, name)
        if self._setup["shows"]:
            return
        QuietReporter.take_over(config)
        config.pluginmanager.register(Debugging(self._interactive))
        if self._tree is not None:
            config.pluginmanager.register(self._tree)
            self._words = Words(config, self._setup["width"])
        if self.measuring is not None:
            config.pluginmanager.register(self.measuring)
        if self._setup["junit"]:
            JUnitProperties(self._wire, config)

    # The innermost wrapper, so that it sees a UsageError of the collection only.
    @pytest.hookimpl(trylast=True, hookwrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, None]:
        """Say that the worker is ready, wait to be told what to collect, collect, and say what came of it."""
        versions = {"python": sys.version.split()[0], "pytest": pytest.__version__}
        self._wire.send({"type": "ready", "protocol": PROTOCOL, **versions, **self._known})
        request = self._requests.next()
        self._finished = request["type"] == "finish"
        session.config.args[:] = self._existing(session.config, request.get("args", ()))
        # A file that cannot be imported counts on the controller, when one of its items is to run.
        option = session.config.option
        maxfail, option.maxfail = option.maxfail, 0
        outcome = yield
        if outcome.excinfo and issubclass(outcome.excinfo[0], pytest.UsageError):
            self._collect_what_can_be(session)
            outcome.force_result(None)
        option.maxfail = maxfail
        if outcome.excinfo is None:
            errors = [
                {"nodeid": nodeid, "outcome": kind, "longrepr": text}
                for nodeid, (kind, text) in self._uncollected.items()
            ]
            self._send_nodes(session)
            self._copies = _copies() if self._setup.get("isolate") else None
            header = self._words.header(request["known"]) if self._words is not None else []
            collected = {"items": len(self._items), "errors": errors, "isolates": self._copies is not None}
            self._wire.send({"type": "collected", **collected, "header": header})

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember an item, even if a conftest file deselects it later: the controller has decided what runs."""
        self._items[item.nodeid] = item

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a file or a class has no items."""
        if report.failed:
            self._uncollected[report.nodeid] = ("failed", report.longreprtext)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._uncollected[report.nodeid] = ("skipped", reason)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve requests until the controller has no more."""
        while not self._finished and (request := self._requests.next())["type"] in ("run", "shell"):
            if request["type"] == "shell":
                self._wire.send({"type": "shell", "code": run_shell(self._interactive, self._shell_path())})
            elif request["round"] >= self._round:  # that of a copy is not known here
                self._run(session, request)
        self._known_there = [] if self._finished else request.get("known", [])
        self._tear_down_to(session, None)
        self.served = True
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Send what plugins that are here only have to say at the end."""
        if self._words is not None and self.served and (text := self._words.summary(self._known_there, exitstatus)):
            self._wire.send({"type": "summary", "text": text})

    # Last, as plain pytest's terminal sees a report after the conftest files.
    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send a report; what was printed goes first."""
        if self._last is None:
            return
        self._waits = self._waits or report.failed
        if self._words is not None:
            self._words.note(report)
        config = self._last.config
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        _flush_output()
        send = self._wire.hold if report.passed and self._is_soon_done(report.when) else self._wire.send
        send({"type": "report", "item": report.nodeid, "data": data})

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Send the warnings of items, with the line: its file may be here only.

        The other warnings, the controller sees in its own collection, if it has one.
        """
        if (when != "runtest" and self._tree is None) or self._setup["shows"]:
            return
        category = warning_message.category
        self._wire.send(
            {
                "type": "warning",
                "when": when,
                "nodeid": nodeid,
                "category": category.__name__,
                "module": category.__module__,
                "message": str(warning_message.message),
                "filename": warning_message.filename,
                "lineno": warning_message.lineno,
                "line": warning_message.line or linecache.getline(warning_message.filename, warning_message.lineno),
                "location": location,
            }
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Send that the user, or the test, wants the whole run to stop."""
        stop = excinfo.value
        message: dict[str, object] = {"type": "interrupted", "kind": "keyboard", "returncode": None}
        if isinstance(stop, pytest.exit.Exception):
            message.update(kind="exit", reason=stop.msg, returncode=stop.returncode)
        else:
            message["reason"] = excinfo.exconly()
        self._wire.send(message)

    def pytest_internalerror(self, excrepr: object) -> bool:
        """Send the traceback of an error in pytest itself or in a plugin."""
        self._wire.send({"type": "error", "text": str(excrepr)})
        return True

    def _send_nodes(self, session: pytest.Session) -> None:
        """Send what was collected, if the controller does not know it, and let items be called by their last names."""
        self._items.update({item.nodeid: item for item in list(self._items.values())})
        nodes: Iterator[dict[str, Any]] = self._tree.nodes(session) if self._tree is not None else iter(())
        while some := list(islice(nodes, _NODES_AT_ONCE)):
            self._wire.send({"type": "nodes", "nodes": some})

    def _existing(self, config: pytest.Config, arguments: Sequence[str]) -> list[str]:
        """Return what of `arguments` is there. For items that are known, whole files: a wrong id would end pytest."""
        files = list(dict.fromkeys(argument.partition("::")[0] for argument in arguments))
        missing = {file for file in files if not Path(file).exists()}
        for file in missing:
            self._uncollected[os.path.relpath(file, config.rootpath)] = (
                "failed",
                f"{file} is not in the container: is it ignored by git, or outside of the project tree?",
            )
        if self._tree is not None:
            return [argument for argument in arguments if argument.partition("::")[0] not in missing]
        return [file for file in files if file not in missing]

    def _collect_what_can_be(self, session: pytest.Session) -> None:
        """Collect without the files that pytest refuses, once it has refused some."""
        accepted = []
        for file in dict.fromkeys(argument.partition("::")[0] for argument in session.config.args):
            try:
                session.perform_collect([file])
                accepted.append(file)
            except pytest.UsageError as error:
                nodeid = os.path.relpath(file, session.config.rootpath)
                # A folder's conftest file that cannot be imported has its own, better reason.
                self._uncollected.setdefault(self._uncollected_part(nodeid) or nodeid, ("failed", str(error)))
        session.perform_collect(accepted)

    def _run(self, session: pytest.Session, request: dict[str, Any]) -> None:
        nodeid = request["item"]
        item = self._items.get(nodeid)
        if item is None:
            kind, reason = self._why_missing(nodeid)
            self._waits = kind == "failed"
            self._end_item({"type": "missing", "item": nodeid, "reason": reason, "outcome": kind})
            return
        if self._copies is None:
            self._run_item(session, item, request)
            return
        with self._wire.passed_on():
            ended = self._copies.run(lambda: self._run_in_copy(session, item, request), DUMP_SIGNAL)
        if ended is not None:
            _end_as(ended)

    def _run_in_copy(self, session: pytest.Session, item: pytest.Item, request: dict[str, Any]) -> None:
        self._run_item(session, item, request)
        # Its files go with its file system.
        for message in self.measuring.messages() if self.measuring is not None else ():
            self._wire.send(message)

    def _run_item(self, session: pytest.Session, item: pytest.Item, request: dict[str, Any]) -> None:
        # The controller sends a request ahead before it has seen the last failure here.
        session.testsfailed = max(session.testsfailed, request["failed"])
        if item is not self._promised:
            self._tear_down_to(session, item)
        self._last, self._promised = item, self._items.get(request["next"] or "")
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=self._promised)
        self._interactive.close()
        stop = str(session.shouldstop) if session.shouldstop else None
        self._waits = self._waits or stop is not None
        self._end_item({"type": "done", "item": request["item"], "stop": stop})

    def _end_item(self, message: dict[str, object]) -> None:
        """Say that an item is through. The run may be over after a failure, so what comes next is asked for anew."""
        waits, self._waits = self._waits, False
        self._round += waits
        self._wire.send({**message, "waits": waits})

    def _ask(self, name: str) -> Any:
        """Return the value of a fixture of the host."""
        self._wire.send({"type": "asked", "name": name})
        answer = self._requests.answer()
        if "error" in answer:
            pytest.fail(answer["error"], pytrace=False)
        if "skipped" in answer:
            pytest.skip(answer["skipped"])
        return answer["value"]

    def _ask_for_terminal(self, shown: bool) -> Any:
        self._wire.send({"type": "terminal", "open": True, "shown": shown})
        return self._requests.answer()["value"]

    def _give_terminal_back(self) -> None:
        self._wire.send({"type": "terminal", "open": False, "shown": False})

    def _shell_path(self) -> list[str]:
        """Return the folders in which a shell finds what tests import; pytest too, if the image has none."""
        home = str(Path(pytest.__file__).parents[1])
        ours = str(Path(__file__).parents[2])
        return [*self._setup["path"], *([home] if home == ours else [])]

    def _measuring(self) -> Measuring | None:
        settings = self._setup["coverage"]
        if settings is None:
            return None
        try:
            return Measuring(settings)
        except ImportError:
            self._wire.send({**_NO_COVERAGE, "message": MISSING})
            return None

    def _is_soon_done(self, when: str) -> bool:
        """Tell whether a report that all is well can wait: the call tells more, and a teardown is mostly short."""
        if when != "call":
            return True
        if self._last is None or self._promised is None or _is_live(self._last.config):
            return False
        return self._promised.parent is self._last.parent

    def _why_missing(self, nodeid: str) -> tuple[str, str]:
        """Return the outcome that an item shall have which is not there, and the reason."""
        part = self._uncollected_part(nodeid)
        return self._uncollected.get(part, ("failed", f"pytest in the container did not find {nodeid}."))

    def _uncollected_part(self, nodeid: str) -> str:
        """Return the longest start of `nodeid` that could not be collected, "" if it is the root or none."""
        while nodeid and nodeid not in self._uncollected:
            nodeid = nodeid[: max(nodeid.rfind("::"), nodeid.rfind("/"), nodeid.rfind("["), 0)]
        return nodeid

    def _tear_down_to(self, session: pytest.Session, item: pytest.Item | None) -> None:
        """Tear down what `item` does not need. If that fails, it is reported for the item that ran last."""
        last = self._last
        if last is None:
            return
        capture = session.config.pluginmanager.get_plugin("capturemanager")
        with capture.item_capture("teardown", last) if capture else nullcontext():
            call = pytest.CallInfo.from_call(
                lambda: session._setupstate.teardown_exact(item),  # noqa: SLF001 - what pytest_runtest_teardown does
                when="teardown",
                reraise=(pytest.exit.Exception, KeyboardInterrupt),
            )
        if call.excinfo is not None:
            report = last.ihook.pytest_runtest_makereport(item=last, call=call)
            last.ihook.pytest_runtest_logreport(report=report)


def _copies() -> Copies | None:
    """Return what runs each item in a copy of this process, None where that cannot be."""
    # Not every Python has ctypes, on which it is built.
    try:
        from pytest_imagebuild.worker.isolation import Copies  # noqa: PLC0415

        copies = Copies()
    except (ImportError, OSError):
        return None
    return copies if copies.possible() else None


def _end_as(status: int) -> None:
    """End as a process has ended whose status this is, so that the supervisor tells the controller of it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _register_ini(config: pytest.Config, name: str) -> None:
    try:
        config.getini(name)
    except (KeyError, ValueError):
        config._parser.addini(name, "An ini key of a plugin on the host.")  # noqa: SLF001 - pytest_addoption is too early


def _is_live(config: pytest.Config) -> bool:
    """Tell whether the controller shows output as it comes: its place among the reports matters then."""
    return bool(config.getoption("capture") != "fd" or config.getoption("setupshow", False))


def _flush_output() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        # A test may have closed it.
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()

"""Items in, reports out: each marked item is run by the worker of its session, and its reports are replayed here."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pytest_imagebuild.dispatch import reports
from pytest_imagebuild.dispatch.reports import Phase
from pytest_imagebuild.dispatch.requests import Request, SessionKey
from pytest_imagebuild.errors import EngineError, ImageBuildError
from pytest_imagebuild.session.reports import warning_message
from pytest_imagebuild.session.session import Session, WorkerDied, WorkerFailedToStart, WorkerTimeout
from pytest_imagebuild.session.wire import Done, Interrupted, Message, Missing, Output, Report, WarningSeen

__all__ = ["Dispatcher"]

MAX_RESTARTS = 10
"""How many workers of one session may die before its remaining tests fail without another try."""

StartSession = Callable[[SessionKey], Session]


@dataclass(slots=True)
class _Line:
    """The items of one session, in the order in which they will run."""

    node_ids: list[str] = field(default_factory=list)
    session: Session | None = None
    deaths: int = 0
    broken: Exception | None = None


class Dispatcher:
    """Runs the marked items of one pytest session."""

    def __init__(self, config: pytest.Config, requests: dict[str, Request], start: StartSession) -> None:
        self._config = config
        self._requests = requests
        self._start = start
        self._lines: dict[SessionKey, _Line] = {}
        for node_id, request in requests.items():
            self._lines.setdefault(request.session, _Line()).node_ids.append(node_id)
        self._next = {
            node_id: following
            for line in self._lines.values()
            for node_id, following in zip(line.node_ids, [*line.node_ids[1:], None], strict=True)
        }
        self._left = Counter(request.session for request in requests.values())

    @property
    def sessions(self) -> list[SessionKey]:
        """The sessions of the run, in the order of their first items."""
        return list(self._lines)

    def fail(self, key: SessionKey, error: Exception) -> None:
        """Let every item of a session fail in set-up with `error`."""
        self._lines[key].broken = error

    def adopt(self, key: SessionKey, session: Session) -> None:
        """Use a session that was started ahead of its first item."""
        self._lines[key].session = session

    def run(self, item: pytest.Item) -> bool:
        """Run `item` if it is marked, and replay its reports. Returns whether it was."""
        request = self._requests.get(item.nodeid)
        if request is None:
            return False
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, request):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        self._left[request.session] -= 1
        if not self._left[request.session]:
            self._finish(self._lines[request.session])
        return True

    def finish(self) -> None:
        """Tear down what the sessions still hold, and end them."""
        for line in self._lines.values():
            self._finish(line)

    def stop(self) -> None:
        """End every session at once."""
        for line in self._lines.values():
            if line.session:
                line.session.stop()
                line.session = None

    def _reports(self, item: pytest.Item, request: Request) -> Iterator[pytest.TestReport]:
        line = self._lines[request.session]
        if line.broken is not None:
            yield from _setup_error(item, _text(line.broken))
            return
        phases: list[str] = []
        try:
            if line.session is None:
                line.session = self._start(request.session)
            for message in line.session.run(
                item.nodeid, self._next[item.nodeid], item.session.testsfailed, request.timeout
            ):
                for report in self._replay(item, message):
                    phases.append(str(report.when))
                    yield report
        except (WorkerDied, WorkerTimeout) as death:
            yield from self._after_death(item, line, death, phases)
        except (ImageBuildError, EngineError) as error:
            line.broken = error
            self._drop(line)
            yield from _setup_error(item, _text(error))

    def _replay(self, item: pytest.Item, message: Message) -> Iterator[pytest.TestReport]:
        match message:
            case Report(data=data):
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
                yield report
            case WarningSeen():
                self._warn(item, message)
            case Output(stream=stream, data=text):
                _show(self._config, stream, text)
            case Missing(outcome="skipped", reason=reason):
                yield reports.skipped(item, reason)
                yield reports.passed(item, when="teardown")
            case Missing(reason=reason):
                yield from _setup_error(item, reason)
            case Interrupted(kind="exit", reason=reason, returncode=returncode):
                pytest.exit(reason, returncode)
            case Interrupted():
                raise KeyboardInterrupt
            case Done(stop=str(reason)):
                item.session.shouldstop = reason
            case _:
                pass

    def _warn(self, item: pytest.Item, message: WarningSeen) -> None:
        item.ihook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warning_message(message),
                "nodeid": message.nodeid,
                "when": message.when,
                "location": message.location,
            }
        )

    def _after_death(
        self, item: pytest.Item, line: _Line, death: WorkerDied | WorkerTimeout, phases: list[str]
    ) -> Iterator[pytest.TestReport]:
        self._drop(line)
        if isinstance(death, WorkerDied):
            line.deaths += 1
        if line.deaths >= MAX_RESTARTS:
            line.broken = ImageBuildError(
                f"Not run: {line.deaths} workers of this image died before. The last one: {death}"
            )
        when: Phase = "setup"
        if phases:
            when = "teardown" if "call" in phases else "call"
        yield reports.failed(item, str(death), when=when, sections=_sections(death))
        if when != "teardown":
            yield reports.passed(item, when="teardown")

    def _finish(self, line: _Line) -> None:
        session, line.session = line.session, None
        if session is None:
            return
        try:
            for message in session.finish():
                if isinstance(message, Report):
                    report = self._config.hook.pytest_report_from_serializable(config=self._config, data=message.data)
                    self._config.hook.pytest_runtest_logreport(report=report)
                elif isinstance(message, Output):
                    _show(self._config, message.stream, message.data)
        except (WorkerDied, WorkerTimeout, WorkerFailedToStart, EngineError):
            # Every item has its reports; there is nothing that this death could take away.
            pass
        finally:
            session.stop()

    def _drop(self, line: _Line) -> None:
        if line.session:
            line.session.stop()
            line.session = None


def _setup_error(item: pytest.Item, text: str) -> Iterator[pytest.TestReport]:
    yield reports.failed(item, text, when="setup")
    yield reports.passed(item, when="teardown")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _sections(death: WorkerDied | WorkerTimeout) -> list[tuple[str, str]]:
    text = death.stacks if isinstance(death, WorkerTimeout) else death.output
    title = "Stacks of the worker" if isinstance(death, WorkerTimeout) else "Last output of the worker"
    return [(title, text)] if text.strip() else []


def _show(config: pytest.Config, stream: str, text: str) -> None:
    """Show live output, where the user asked for it with `-s`."""
    if config.getoption("capture") == "no":
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.write(text)
        target.flush()

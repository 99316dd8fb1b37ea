"""Items in, reports out: each marked item is run by the worker of its session, and its reports are replayed here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_imagebuild.dispatch import hosted, reports
from pytest_imagebuild.dispatch.broken import Broken, broken_by, last_words, with_limit
from pytest_imagebuild.dispatch.gpus import GpuWarning, warn_of_lost
from pytest_imagebuild.dispatch.invocation import collected_by
from pytest_imagebuild.dispatch.replay import Replay
from pytest_imagebuild.dispatch.requests import Request, SessionKey, plain_nodeid
from pytest_imagebuild.dispatch.spares import AHEAD, Spares
from pytest_imagebuild.dispatch.unenforced import LimitWarning, warn_of_limits
from pytest_imagebuild.errors import EngineError, ImageBuildError
from pytest_imagebuild.session.messages import Asked, Done, Message, Missing, Output, ShellEnded, Terminal
from pytest_imagebuild.session.session import Session, WorkerTimeout

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.console import Console
    from pytest_imagebuild.dispatch.reports import Phase
    from pytest_imagebuild.engines.gpus.inventory import GpuInventory
    from pytest_imagebuild.engines.gpus.leases import Leases
    from pytest_imagebuild.engines.protocol import Capabilities

__all__ = ["Dispatcher"]

MAX_DEATHS = 10
"""How many workers of one session may die before its remaining tests fail without another try."""

REQUESTS_AHEAD = 32
"""Items that a worker knows of before their turn, so that it need not wait between them."""

AT_ONCE = 4
"""Sessions that are started, or ended, side by side."""

_STOP_SECONDS = 30.0

_NO_REPORT = "The container says that this test is through, but it has not reported how it went."

StartSession = Callable[[SessionKey, Sequence[str]], Session]
"""Starts a session whose worker collects the given files."""


@dataclass(slots=True)
class _Line:
    """The items of one session key wait here for their worker.

    `spares` is there where each item needs a pristine file system, `in_place` once it is known whether one worker can
    give that to all of them; if not, each item has a session of its own. `asked` are the items that the worker was
    asked for ahead, each with the item that the worker was told comes next.
    """

    files: tuple[str, ...]
    replay: Replay
    spares: Spares | None = None
    in_place: bool | None = None
    warned: bool = False
    starting: Future[Session] | None = None
    session: Session | None = None
    asked: deque[tuple[pytest.Item, pytest.Item | None]] = field(default_factory=deque)
    deaths: int = 0
    broken: Broken | None = None


class _Turn(NamedTuple):
    """One item's turn. `following` is the next item of its session, as far as is known.

    `upcoming` are the files of the items that probably have the next turns.
    """

    item: pytest.Item
    request: Request
    following: pytest.Item | None
    upcoming: Sequence[str] = ()


class Dispatcher:
    """Runs the marked items of one pytest session."""

    def __init__(
        self,
        config: pytest.Config,
        requests: Mapping[pytest.Item, Request],
        start: StartSession,
        capabilities: Capabilities,
        *,
        gpus: Callable[[], GpuInventory],
        leases: Leases,
        console: Console,
    ) -> None:
        self._requests = requests
        self._console = console
        self._capabilities = capabilities
        self._start = start
        self._gpus = gpus
        self._leases = leases
        leases.when_short(self._give_up_gpus)
        items: dict[SessionKey, list[pytest.Item]] = {}
        for item, request in requests.items():
            items.setdefault(request.session, []).append(item)
        self._after = {item: after for of_session in items.values() for item, after in _successors(of_session)}
        self._nodeids = {item: plain_nodeid(item) for item in requests}
        self._lines = {key: self._line(config, key, of_session) for key, of_session in items.items()}
        self._gpu_lines = {key: line for key, line in self._lines.items() if key.gpu}
        # A worker that is ahead prints what belongs to the next item.
        is_live = any(line.replay.live for line in self._lines.values())
        # An xdist worker runs what it is given, one after the other.
        self._pipelines = not is_live and not hasattr(config, "workerinput")
        self._order: Mapping[pytest.Item, pytest.Item] | None = None
        self._pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="imagebuild-session")
        self._starting: set[Future[Session]] = set()
        self._started: set[Session] = set()
        self._ending: list[tuple[Replay, Future[list[Message]]]] = []

    @property
    def sessions(self) -> list[SessionKey]:
        """The sessions of the run, in the order of their first items."""
        return list(self._lines)

    def files(self, key: SessionKey) -> Sequence[str]:
        """Return what the worker of a session collects."""
        return self._lines[key].files

    def fail(self, key: SessionKey, error: Exception) -> None:
        """Let every item of a session fail in set-up with `error`."""
        self._lines[key].broken = broken_by(error)

    def adopt(self, key: SessionKey, session: Session) -> None:
        """Let a session that has collected already run the items of its key."""
        self._lines[key].session = session
        self._started.add(session)

    def broken(self, item: pytest.Item) -> bool:
        """Tell whether it is known already that `item` will fail in set-up."""
        request = self._requests.get(item)
        return request is not None and self._lines[request.session].broken is not None

    def start(self, keys: Iterable[SessionKey]) -> None:
        """Begin to start sessions, ahead of their first items."""
        for key in keys:
            line = self._lines[key]
            line.starting = self._begin(key, line.files)

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run `item` if it is marked, and replay its reports. Returns whether it was.

        `nextitem` is what pytest runs next, None if `item` is the last.
        """
        request = self._requests.get(item)
        self._give_up_gpus(request, wanted=self._leases.wanted)
        if request is None:
            return False
        line = self._lines[request.session]
        following = self._following(line, item, nextitem)
        if line.spares is not None:
            # Each would hold a GPU while it waits.
            upcoming = () if request.session.gpu else self._upcoming(following)
            turn = _Turn(item, request, None, upcoming)
        else:
            turn = _Turn(item, request, following)
        reports.publish(item, nextitem, self._reports(line, turn))
        if following is None:
            self._finish(line)
        elif line.spares is not None and not line.in_place:
            self._end(line)
        return True

    def shell(self, item: pytest.Item) -> int | None:
        """Let the user have a shell in the container of `item`. Returns its exit code; None if `item` has none.

        Raises ImageBuildError.
        """
        request = self._requests.get(item)
        if request is None:
            return None
        line = self._lines[request.session]
        if line.broken is not None:
            raise ImageBuildError(line.broken.text)
        session = self._session(line, _Turn(item, request, None, (collected_by(item),)))
        code = 0
        try:
            for message in session.shell():
                if isinstance(message, ShellEnded):
                    code = message.code
                self._console.hears(session, message)
        finally:
            self._console.take_back()
        return code

    def finish(self) -> None:
        """Tear down what the sessions still hold, and end them."""
        for line in self._lines.values():
            self._finish(line)
        for replay, messages in self._ending:
            for message in messages.result():
                replay.late(message)
        self._ending.clear()

    def stop(self) -> None:
        """End every session at once."""
        starting = [begun for begun in tuple(self._starting) if not begun.cancel()]
        wait(starting, timeout=_STOP_SECONDS)
        for session in tuple(self._started):
            with suppress(EngineError):
                session.stop()
        self._pool.shutdown(wait=False)

    def _following(self, line: _Line, item: pytest.Item, nextitem: pytest.Item | None) -> pytest.Item | None:
        """Return the next item of the same session, which decides about the fixtures to keep.

        It is what the worker was told before, else what pytest says, else the next of the collection: an xdist
        worker, which runs only a part of it, knows one item ahead. A worker can live with a guess that is wrong.
        """
        if line.asked and line.asked[0][0] is item:
            return line.asked[0][1]
        if nextitem is None:
            return None
        request = self._requests.get(nextitem)
        shares_the_session = request is not None and self._lines[request.session] is line
        return nextitem if shares_the_session and nextitem.nodeid != item.nodeid else self._after[item]

    def _upcoming(self, item: pytest.Item | None) -> Sequence[str]:
        """Return the files of `item` and those after it, as far as sessions are started ahead."""
        return [collected_by(each) for each in islice(self._in_order(item), AHEAD)]

    def _in_order(self, item: pytest.Item | None) -> Iterator[pytest.Item]:
        while item is not None:
            yield item
            item = self._after[item]

    def _reports(self, line: _Line, turn: _Turn) -> Iterator[pytest.TestReport]:
        if line.broken is not None:
            yield from reports.setup_error(turn.item, line.broken.text, sections=line.broken.sections)
            return
        try:
            self._warn_once(line, turn)
        except (LimitWarning, GpuWarning) as warning:
            yield from reports.setup_error(turn.item, str(warning))
            return
        phases: list[str] = []
        decided = turn.item.config.getoption("setuponly", False)
        try:
            session = self._session(line, turn)
            for report in self._replayed(line, session, turn):
                if report.nodeid == turn.item.nodeid:
                    phases.append(str(report.when))
                    decided = decided or report.when == "call" or report.outcome != "passed"
                yield report
            if not decided:
                # Else it would be as if there had been no such test. What else comes of it is not for the next one.
                self._drop(line)
                yield from reports.setup_error(turn.item, _NO_REPORT)
        except ImageBuildError as error:
            yield from self._after_death(line, turn.item, error, phases)

    def _replayed(self, line: _Line, session: Session, turn: _Turn) -> Iterator[pytest.TestReport]:
        """Let an item run; answer what its worker asks, and yield the reports of it."""
        try:
            yield from self._reports_of(line, session, turn)
        finally:
            self._console.take_back()

    def _reports_of(self, line: _Line, session: Session, turn: _Turn) -> Iterator[pytest.TestReport]:
        last: pytest.TestReport | None = None
        for message in self._messages(line, session, turn):
            if line.spares is not None and line.in_place is None and session.collected is not None:
                line.in_place = session.collected.isolates
                line.spares.prepare(() if line.in_place else turn.upcoming)
            if isinstance(message, Terminal) and message.shown and last is not None:
                reports.shown_by_debugger(last, turn.item.config)
            if self._console.hears(session, message):
                continue
            if session.collected is None and isinstance(message, Output):
                continue  # the collection here printed it already
            if isinstance(message, (Done, Missing)) and message.waits:
                line.asked.clear()
            if isinstance(message, Asked):
                session.answer(hosted.answer(turn.item, message.name))
                continue
            for report in line.replay.reports(turn.item, message):
                last = report
                yield report

    def _warn_once(self, line: _Line, turn: _Turn) -> None:
        if not line.warned:
            line.warned = True
            warn_of_limits(turn.item, turn.request.session, self._capabilities)
            warn_of_lost(turn.item, turn.request.session, self._gpus, self._capabilities.engine)

    def _messages(self, line: _Line, session: Session, turn: _Turn) -> Iterator[Message]:
        """Let the worker run an item, and know of those after it that are certain to be run."""
        if line.asked:
            line.asked.popleft()
        ahead: list[tuple[str, str | None]] = []
        if self._pipelines and line.spares is None and len(line.asked) < REQUESTS_AHEAD // 2:
            ahead = [(self._nodeids[each], self._inside(after)) for each, after in self._ask_ahead(line, turn)]
        item, following, failed = self._nodeids[turn.item], self._inside(turn.following), turn.item.session.testsfailed
        return session.run(item, following, failed, turn.request.timeout, ahead=ahead)

    def _ask_ahead(self, line: _Line, turn: _Turn) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
        """Yield what the worker can be asked for besides, and remember it."""
        last, following = line.asked[-1] if line.asked else (turn.item, turn.following)
        successors = self._successors_in(turn.item.session)
        while following is not None and successors.get(last) is following and len(line.asked) < REQUESTS_AHEAD:
            last, following = following, self._after[following]
            line.asked.append((last, following))
            yield last, following

    def _inside(self, item: pytest.Item | None) -> str | None:
        return None if item is None else self._nodeids[item]

    def _successors_in(self, session: pytest.Session) -> Mapping[pytest.Item, pytest.Item]:
        """Return what pytest runs after each item."""
        if self._order is None:
            self._order = dict(pairwise(session.items))
        return self._order

    def _session(self, line: _Line, turn: _Turn) -> Session:
        """Return the session of an item, started if need be."""
        if line.asked and line.asked[0][0] is not turn.item:
            # Something else than pytest's own loop chooses what runs.
            self._drop(line)
        if line.spares is not None and line.in_place is False:
            line.session = line.spares.take(collected_by(turn.item))
            line.spares.prepare(turn.upcoming)
        elif line.session is None:
            starting, line.starting = line.starting, None
            line.session = starting.result() if starting else self._open(turn.request.session, line.files)
        return line.session

    def _line(self, config: pytest.Config, key: SessionKey, items: Sequence[pytest.Item]) -> _Line:
        files = tuple(dict.fromkeys(map(collected_by, {item.path: item for item in items}.values())))
        names = {self._nodeids[item]: item.nodeid for item in items}
        replay = Replay(config, names, getattr(items[0], "image_label", ""))
        if key.isolation == "session":
            return _Line(files=files, replay=replay)
        spares = Spares(lambda file: self._begin(key, (file,)), lambda unused: self._end_unused(replay, unused))
        return _Line(files=files, replay=replay, spares=spares)

    def _begin(self, key: SessionKey, files: Sequence[str]) -> Future[Session]:
        begun = self._pool.submit(self._open, key, files)
        self._starting.add(begun)
        begun.add_done_callback(self._starting.discard)
        return begun

    def _open(self, key: SessionKey, files: Sequence[str]) -> Session:
        try:
            session = self._start(key, files)
        except OSError as error:
            raise ImageBuildError(f"The project could not be brought into a container: {error}.") from error
        self._started.add(session)
        return session

    def _after_death(
        self, line: _Line, item: pytest.Item, error: Exception, phases: list[str]
    ) -> Iterator[pytest.TestReport]:
        """Yield the reports of an item that has no worker any more; the items after it get a new one, if they may."""
        collected = line.session is not None and line.session.collected is not None
        self._drop(line)
        if not collected:
            line.broken = broken_by(error)
            yield from reports.setup_error(item, line.broken.text, sections=line.broken.sections)
            return
        # A session that ends with its item anyway is none too many.
        line.deaths += not isinstance(error, WorkerTimeout) and line.spares is None
        if line.deaths >= MAX_DEATHS:
            line.broken = Broken(f"Not run: {line.deaths} workers of this image died before. The last one: {error}")
        # A worker keeps a good report back for a moment, so `setup` may be over although nothing says so.
        when: Phase = "teardown" if "call" in phases else "call"
        yield reports.failed(
            item, with_limit(error, self._requests[item].session), when=when, sections=last_words(error)
        )
        if when != "teardown":
            yield reports.passed(item, when="teardown")

    def _give_up_gpus(self, request: Request | None = None, *, wanted: Callable[[], bool] = lambda: True) -> None:
        """End sessions with GPUs that `request` is not for. Nothing runs in them: only one item runs at a time."""
        others = [line for key, line in self._gpu_lines.items() if request is None or key != request.session]
        idle = [line for line in others if line.session is not None]
        if idle and wanted():
            for line in idle:
                self._finish(line)

    def _finish(self, line: _Line) -> None:
        """Begin to end what a line has running. What it still has to say is for `finish`."""
        if line.asked:
            # The run ends early, and the worker is busy with an item that nobody waits for.
            self._drop(line)
        if line.spares is not None:
            line.spares.prepare(())
        starting, line.starting = line.starting, None
        if starting is not None:
            self._end_unused(line.replay, starting)
        self._end(line)

    def _end(self, line: _Line) -> None:
        """Begin to end the session that runs."""
        session, line.session = line.session, None
        if session is not None:
            self._ending.append((line.replay, self._pool.submit(self._last_messages, session)))

    def _end_unused(self, replay: Replay, starting: Future[Session]) -> None:
        """Begin to end a session that no item has used, or let it not start at all."""
        if not starting.cancel():
            self._ending.append((replay, self._pool.submit(self._last_messages_of, starting)))

    def _last_messages_of(self, starting: Future[Session]) -> list[Message]:
        with suppress(ImageBuildError):
            return self._last_messages(starting.result())
        return []

    def _last_messages(self, session: Session) -> list[Message]:
        """End a session; return what it says at its end. A death there is none: every item has its reports."""
        messages = []
        with suppress(ImageBuildError):
            if session.collected is None:
                session.stop()
            for message in session.finish():
                messages.append(message)  # noqa: PERF402 - those before an error count
        self._started.discard(session)
        return messages

    def _drop(self, line: _Line) -> None:
        session, line.session = line.session, None
        line.asked.clear()
        if session is not None:
            with suppress(EngineError):
                session.stop()


def _successors(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Yield each item with the next one; never with one of the same id, which a worker takes for the same item."""
    after: pytest.Item | None = None
    pairs = []
    for item in reversed(items):
        pairs.append((item, None if after is not None and after.nodeid == item.nodeid else after))
        after = item
    return reversed(pairs)

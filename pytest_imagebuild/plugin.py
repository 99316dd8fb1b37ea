"""The pytest plugin. Hooks delegate; what they need is imported when the first image is needed, not before."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from pytest_imagebuild import hookspecs
from pytest_imagebuild.frozen import freeze, thaw
from pytest_imagebuild.last_time import recall, remember
from pytest_imagebuild.options import Options, add_options
from pytest_imagebuild.unrewritten import import_as_python_does
from pytest_imagebuild.worker.imports import pytest_runtest_makereport
from pytest_imagebuild.worker.marker import (
    image_under_test,
    images_of,
    pytest_generate_tests,
    pytest_itemcollected,
)

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.early import EarlyContainers
    from pytest_imagebuild.dispatch.governed.collection import GovernedCollection
    from pytest_imagebuild.dispatch.run import Run

__all__ = [
    "image_build",
    "image_container",
    "image_host",
    "image_under_test",
    "pytest_generate_tests",
    "pytest_itemcollected",
    "pytest_runtest_makereport",
]

RUN: pytest.StashKey[Run] = pytest.StashKey()
EARLY: pytest.StashKey[EarlyContainers] = pytest.StashKey()
GOVERNED: pytest.StashKey[GovernedCollection] = pytest.StashKey()
SUMMARIES: pytest.StashKey[list[tuple[str, str]]] = pytest.StashKey()
LABELS: pytest.StashKey[set[str]] = pytest.StashKey()
SHELL_STATUS: pytest.StashKey[int] = pytest.StashKey()
COUNTS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
_CONFIGS: list[pytest.Config] = []
MARKER = (
    "image(image, *, gpu=None, cpu=None, memory=None, timeout=None, env=None, secrets=(), volumes=None, network=True, "
    "isolation='session'): "
    "run the test inside a container of the image; "
    "several images run it once in each"
)
GPU_MARKER = "gpu: the test asks for a GPU: added to every test whose image marker has gpu="

import_as_python_does()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register flags and ini keys."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer our own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Take over the folders that have an image: from here on, even conftest files are theirs."""
    freeze(early_config)
    options = early_config.known_args_namespace
    named = (options.image or early_config.getini("image")) and not options.no_image
    if not named or options.help or options.version:
        return (yield)
    from pytest_imagebuild.dispatch.governed import govern  # noqa: PLC0415 - only a run with such folders pays for it

    governed = early_config.stash[GOVERNED] = govern(early_config, lambda: run_of(early_config))
    result = yield
    distributes = bool(getattr(options, "tx", None) or getattr(options, "numprocesses", None))
    governed.read_arguments(parser, args, distributes=distributes)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    _CONFIGS.append(config)
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", GPU_MARKER)
    if (nodeid := config.getoption("image_shell")) is not None:
        if _distributes(config) or config.getoption("no_image"):
            raise pytest.UsageError("--image-shell needs a container and a terminal: leave out -n and --no-image.")
        config.args[:] = [nodeid]


def current_config() -> pytest.Config | None:
    """Return the configuration of the run of pytest that goes on in this process, the innermost of several."""
    return _CONFIGS[-1] if _CONFIGS else None


def run_of(config: pytest.Config) -> Run:
    """Return the run of this pytest process, made at first use."""
    if RUN not in config.stash:
        from pytest_imagebuild.dispatch.run import Run  # noqa: PLC0415 - only a run with images pays for it
        from pytest_imagebuild.terminal import BuildDisplay  # noqa: PLC0415

        is_worker = hasattr(config, "workerinput")
        display = BuildDisplay(
            stream=_terminal(config),
            quiet=is_worker or config.getoption("verbose") < 0,
            verbose=config.getoption("verbose") > 0,
        )
        config.stash[RUN] = Run(config, Options.from_config(config), display, config.stash.get(EARLY, None))
    return config.stash[RUN]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Begin to start what this command line has needed the last time, while pytest collects."""
    if GOVERNED not in session.config.stash and not _begins_early(session.config):
        thaw(session.config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the images of the selected tests, before the first of them runs."""
    config = session.config
    if config.getoption("collectonly") or config.getoption("no_image") or _distributes(config):
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # pytest stops before the first test
    if GOVERNED in config.stash or any(images_of(item) or item.get_closest_marker("image") for item in session.items):
        run_of(config).prepare(session.items)
    elif EARLY in config.stash:
        config.stash[EARLY].keep(())
        remember(config, [])


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """End the sessions in order after the last test."""
    try:
        result = yield
    except (Exception, pytest.Session.Interrupted):  # not Ctrl-C, which stops at once
        _finish(session.config)
        raise
    _finish(session.config)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a marked item in its container; under `--image-build-only`, only tell of what could not be built.

    Under `--image-shell`, the container is the user's, and no item is run.
    """
    run = item.config.stash.get(RUN, None)
    if item.config.getoption("image_shell") is not None:
        if SHELL_STATUS not in item.config.stash:
            item.config.stash[SHELL_STATUS] = run_of(item.config).shell(item)
        return True
    if item.config.getoption("image_build_only") and (run is None or not run.broken(item)):
        return True
    return True if run is not None and run.run(item, nextitem) else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts of an xdist worker to the controller. The status of a shell is that of the run."""
    if status := session.config.stash.get(SHELL_STATUS, 0):
        session.exitstatus = status
    run = session.config.stash.get(RUN, None)
    output = getattr(session.config, "workeroutput", None)
    if run is not None and output is not None:
        output["imagebuild"] = run.counts()
        output["imagebuild_labels"] = run.labels
        output["imagebuild_summaries"] = run.summaries


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Gather the counts of an xdist worker."""
    output = getattr(node, "workeroutput", {})
    if counts := output.get("imagebuild"):
        node.config.stash.setdefault(COUNTS, []).append(counts)
        node.config.stash.setdefault(LABELS, set()).update(output["imagebuild_labels"])
        node.config.stash.setdefault(SUMMARIES, []).extend(output["imagebuild_summaries"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the summary line."""
    run = config.stash.get(RUN, None)
    for label, text in (*config.stash.get(SUMMARIES, ()), *(run.summaries if run is not None else ())):
        if label:
            terminalreporter.section(f"inside {label}")
        terminalreporter.write(text)
    counts = config.stash.get(COUNTS, [])
    if run is not None:
        counts = [run.counts(), *counts]
    if any(one["engine"] for one in counts) and config.getoption("verbose") >= 0:
        from pytest_imagebuild.terminal import image_lines, summary_line  # noqa: PLC0415 - only a run with images pays for it

        for line in run.remarks() if run is not None else ():
            terminalreporter.write_line(f"imagebuild: {line}")
        labels = {*config.stash.get(LABELS, ()), *(run.labels if run is not None else ())}
        for line in (*image_lines(terminalreporter.stats, labels), summary_line(counts)):
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what still runs and let go of the engine."""
    if config in _CONFIGS:
        _CONFIGS.remove(config)
    run = config.stash.get(RUN, None)
    early = config.stash.get(EARLY, None)
    if run is not None:
        run.close()
    elif early is not None:
        early.close()
        early.engine.close()
    elif config.stash.get(COUNTS, []):
        run_of(config).drop_after_workers()


def _terminal(config: pytest.Config) -> TextIO:
    if hasattr(config, "workerinput"):
        return sys.stderr
    # There is none yet while pytest reads its command line.
    is_there = config.pluginmanager.has_plugin("terminalreporter")
    return config.get_terminal_writer()._file if is_there else sys.stdout  # noqa: SLF001


def _finish(config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None:
        run.finish()


def _begins_early(config: pytest.Config) -> bool:
    if config.getoption("collectonly") or config.getoption("no_image"):
        return False
    if _distributes(config) or hasattr(config, "workerinput") or not (rows := recall(config)):
        return False
    from pytest_imagebuild.dispatch.early import begin_early  # noqa: PLC0415 - only a run with images pays for it

    if (early := begin_early(config, rows)) is not None:
        config.stash[EARLY] = early
    return early is not None


def _distributes(config: pytest.Config) -> bool:
    """Tell whether this is an xdist controller, which runs no test itself."""
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def image_build(request: pytest.FixtureRequest) -> Any:
    """Return a function that builds an Image: `image_build(image)` gives its `key` and `reference`."""
    from pytest_imagebuild import fixtures  # noqa: PLC0415 - only a test that uses it pays for it

    return fixtures.builder(run_of(request.config))


@pytest.fixture(scope="session")
def image_host() -> str:
    """Return the name by which a test reaches what listens on the host: here it is `localhost`."""
    return "localhost"


@pytest.fixture(scope="session")
def image_container(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """Return a function that starts a container of an Image for the test to talk to.

    `image_container(image, *, command=(), ports=(), env=None)`; what it returns has `port(n) -> (host, port)`, `exec`,
    `logs`, `read`, `write`, `stop`, and `native`, on the docker engine the testcontainers `DockerContainer`.
    """
    from pytest_imagebuild import fixtures  # noqa: PLC0415 - only a test that uses it pays for it

    with fixtures.services(run_of(request.config)) as start:
        yield start

"""The pytest plugin. Hooks delegate; what they need is imported when the first image is needed, not before."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_imagebuild import hookspecs
from pytest_imagebuild.options import Options, add_options
from pytest_imagebuild.worker.marker import image_under_test, images_of, pytest_generate_tests

if TYPE_CHECKING:
    from pytest_imagebuild.dispatch.run import Run

__all__ = ["image_build", "image_container", "image_under_test", "pytest_generate_tests"]

RUN: pytest.StashKey[Run] = pytest.StashKey()
COUNTS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
MARKER = (
    "image(image, *, cpu=None, memory=None, timeout=None, env=None, network=True, isolation='session'): "
    "run the test inside a container of the image; "
    "several images run it once in each"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register flags and ini keys."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer our own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


def run_of(config: pytest.Config) -> Run:
    """Return the run of this pytest process, made at first use."""
    if RUN not in config.stash:
        from pytest_imagebuild.dispatch.run import Run  # noqa: PLC0415 - only a run with images pays for it
        from pytest_imagebuild.terminal import BuildDisplay  # noqa: PLC0415

        is_worker = hasattr(config, "workerinput")
        display = BuildDisplay(
            stream=config.get_terminal_writer()._file if not is_worker else sys.stderr,  # noqa: SLF001
            quiet=is_worker or config.getoption("verbose") < 0,
            verbose=config.getoption("verbose") > 0,
        )
        config.stash[RUN] = Run(config, Options.from_config(config), display)
    return config.stash[RUN]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the images of the selected tests, before the first of them runs."""
    config = session.config
    if config.getoption("collectonly") or config.getoption("no_image") or _distributes(config):
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # pytest stops before the first test
    if any(images_of(item) or item.get_closest_marker("image") for item in session.items):
        run_of(config).prepare(session.items)


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
    """Run a marked item in its container; under `--image-build-only`, only tell of what could not be built."""
    run = item.config.stash.get(RUN, None)
    if item.config.getoption("image_build_only") and (run is None or not run.broken(item)):
        return True
    return True if run is not None and run.run(item, nextitem) else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the counts of an xdist worker to the controller."""
    run = session.config.stash.get(RUN, None)
    output = getattr(session.config, "workeroutput", None)
    if run is not None and output is not None:
        output["imagebuild"] = run.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Gather the counts of an xdist worker."""
    counts = getattr(node, "workeroutput", {}).get("imagebuild")
    if counts:
        node.config.stash.setdefault(COUNTS, []).append(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the summary line."""
    run = config.stash.get(RUN, None)
    counts = config.stash.get(COUNTS, [])
    if run is not None:
        counts = [run.counts(), *counts]
    if any(one["engine"] for one in counts) and config.getoption("verbose") >= 0:
        from pytest_imagebuild.terminal import summary_line  # noqa: PLC0415 - only a run with images pays for it

        terminalreporter.write_line(summary_line(counts))


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what still runs and let go of the engine."""
    run = config.stash.get(RUN, None)
    if run is not None:
        run.close()
    elif config.stash.get(COUNTS, []):
        run_of(config).drop_after_workers()


def _finish(config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None:
        run.finish()


def _distributes(config: pytest.Config) -> bool:
    """Tell whether this is an xdist controller, which runs no test itself."""
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def image_build(request: pytest.FixtureRequest) -> Any:
    """Return a function that builds an Image: `image_build(image)` gives its `key` and `reference`."""
    from pytest_imagebuild import fixtures  # noqa: PLC0415 - only a test that uses it pays for it

    return fixtures.builder(run_of(request.config))


@pytest.fixture(scope="session")
def image_container(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """Return a function that starts a container of an Image for the test to talk to.

    `image_container(image, *, command=(), ports=(), env=None)`; what it returns has `port(n) -> (host, port)`, `exec`,
    `logs`, `read`, `write`, `stop`, and `native`, on the docker engine the testcontainers `DockerContainer`.
    """
    from pytest_imagebuild import fixtures  # noqa: PLC0415 - only a test that uses it pays for it

    with fixtures.services(run_of(request.config)) as start:
        yield start

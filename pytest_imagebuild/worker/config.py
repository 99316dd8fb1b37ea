"""pytest's configuration inside the container, from what the controller sent.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import TracebackEntry, filter_traceback
from _pytest.config import ConftestImportFailure, get_config

from pytest_imagebuild.worker import fixtures, imports, marker
from pytest_imagebuild.worker.channel import Requests, Wire
from pytest_imagebuild.worker.plugin import WorkerPlugin

__all__ = ["run"]

_BLOCKED = ("imagebuild", "pytest_imagebuild.plugin")
"""The host's plugin: what it does is done on the host."""

_OWN_OPTIONS = ("file_or_dir", "inifilename", "plugins", "rootdir")
"""Options that come as arguments here."""


def run(setup: dict[str, Any], requests: Requests, wire: Wire, typed: int) -> int:
    """Run pytest as the worker. Returns the exit status: 0 if the controller has ended it, else pytest's."""
    os.environ["PYTEST_VERSION"] = pytest.__version__
    plugin = WorkerPlugin(setup, requests, wire, typed)
    try:
        config = _build(setup, plugin)
        try:
            code = int(config.hook.pytest_cmdline_main(config=config))
        finally:
            config._ensure_unconfigure()  # noqa: SLF001 - as pytest.main() does
        if setup["shows"]:
            wire.send({"type": "finished"})
        if plugin.served:
            for message in plugin.measuring.messages() if plugin.measuring is not None else ():
                wire.send(message)
            wire.send({"type": "finished"})
            code = 0
    except ConftestImportFailure as failure:
        wire.send({"type": "error", "text": _conftest_text(failure)})
    except pytest.UsageError as error:
        wire.send({"type": "error", "text": "\n".join(f"ERROR: {line}" for line in error.args)})
    except pytest.exit.Exception as stop:
        wire.send({"type": "interrupted", "kind": "exit", "reason": stop.msg, "returncode": stop.returncode})
    else:
        return code
    return int(pytest.ExitCode.USAGE_ERROR)


def _build(setup: dict[str, Any], plugin: WorkerPlugin) -> pytest.Config:
    """Do what `Config.fromdictargs` does, with our plugins there from the start.

    A worker that describes what it collects reads the run's own command line instead, as pytest does.
    """
    describes = setup["describe"]
    blocked = (*_BLOCKED, *setup["blocked"])
    arguments = [argument for name in blocked for argument in ("-p", f"no:{name}")]
    if describes:
        arguments += setup["args"]
    arguments += [argument for name in setup["plugins"] for argument in ("-p", name)]
    if setup["inifile"]:
        arguments += ["-c", setup["inifile"]]
    # The controller has checked that the required plugins are there; not all of them work in a worker.
    arguments += ["--rootdir", setup["rootdir"], "-o", "required_plugins="]
    if not describes:
        arguments += setup["args"]
    config = get_config(arguments)
    _tolerate_plugins_of_the_host(config.pluginmanager)
    # pytest itself stays to the end. It collects garbage many times then, and would look at all of its own each time.
    if hasattr(gc, "freeze"):
        gc.freeze()
    try:
        for ours in (plugin, marker, fixtures, imports):
            config.pluginmanager.register(ours, f"imagebuild-{getattr(ours, '__name__', 'worker')}")
        options = {name: value for name, value in setup["options"].items() if name not in _OWN_OPTIONS}
        if not describes:
            vars(config.option).update(options)
        config.parse(arguments, addopts=describes)
        vars(config.option).update(options)
    except BaseException:
        config._ensure_unconfigure()  # noqa: SLF001 - as pytest.main() does
        raise
    return config


def _tolerate_plugins_of_the_host(manager: pytest.PytestPluginManager) -> None:
    """Leave out plugins of `-p` and PYTEST_PLUGINS that are not here: the controller has them, as that of an IDE."""
    of_argument: Any = manager.consider_pluginarg

    def consider_argument(argument: str) -> None:
        with _if_it_is_here(argument):
            of_argument(argument)

    def consider_environment() -> None:
        for name in filter(None, os.environ.get("PYTEST_PLUGINS", "").split(",")):
            with _if_it_is_here(name):
                manager.import_plugin(name, consider_entry_points=True)

    manager.consider_pluginarg = consider_argument  # type: ignore[method-assign,assignment]
    manager.consider_env = consider_environment  # type: ignore[method-assign]


@contextmanager
def _if_it_is_here(plugin: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, pytest.UsageError):  # pytest 9.2 raises the latter
        if plugin.startswith("no:") or _is_here(plugin):
            raise


def _is_here(module: str) -> bool:
    """Tell whether there is a module of this name, as whole as it may be."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError) as error:
        # A package on the way that is there, and fails.
        return not isinstance(error, ModuleNotFoundError) or find_spec(module.partition(".")[0]) is not None


def _conftest_text(failure: ConftestImportFailure) -> str:
    """Return what pytest prints about a conftest file that cannot be imported."""
    # pytest 8.1 put `cause` in the place of the triple `excinfo`.
    cause = getattr(failure, "cause", None) or getattr(failure, "excinfo", (None, failure))[1]
    info = pytest.ExceptionInfo.from_exception(cause)
    info.traceback = info.traceback.filter(_is_of_the_user)
    text = info.getrepr(style="short", chain=False) if info.traceback else info.exconly()
    return f"ImportError while loading conftest '{failure.path}'.\n{text}"


def _is_of_the_user(entry: TracebackEntry) -> bool:
    return filter_traceback(entry) and "importlib" not in Path(entry.path).parts

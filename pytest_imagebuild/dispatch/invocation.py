"""How the worker's pytest is set up: what of the controller's options and environment means something inside."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_imagebuild.options import INI_KEYS
from pytest_imagebuild.session.tree import ProjectTree, read_tree

__all__ = [
    "OwnRun",
    "collected_by",
    "environment",
    "import_path",
    "ini_names",
    "only_shows",
    "own_arguments",
    "own_options",
    "parsed_so_far",
    "project_root",
    "trees_outside",
    "worker_options",
]

_OFF: Mapping[str, Any] = {
    "basetemp": None,  # a folder of the host, under xdist one that no container has
    "collectonly": False,
    "keyword": "",
    "markexpr": "",
    "deselect": None,
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
    "stepwise_skip": False,
    "stepwise_reset": False,
    "cacheclear": False,
    "cacheshow": None,
    "xmlpath": None,
    "pastebin": None,
    "showfixtures": False,
    "show_fixtures_per_test": False,
    "help": False,
    "version": 0,
    "file_or_dir": [],
    "numprocesses": None,
    "maxprocesses": None,
    "dist": "no",
    "tx": [],
    "looponfail": False,
}
"""Options that act on the controller, with the value that switches them off in a worker."""

_OURS = {
    "image",
    "image_arguments",
    "no_image",
    "gpu_missing",
    "image_engine",
    "force_build",
    "ignore_image_cache",
    "image_locked",
    "image_lock_upgrade",
    "image_build_only",
    "image_shell",
}
_OUR_PLUGINS = {"imagebuild", "pytest_imagebuild.plugin", "xdist", "xdist.plugin"}
_READ_ABOVE = ("conftest.py", "__init__.py")
"""What pytest reads in the folders above a test file."""
_PASSED_ON = ("CI", "BUILD_NUMBER", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS", "PYTEST_THEME")
"""Variables that change what pytest does or prints: it shortens assertion texts unless CI is set."""


def worker_options(config: pytest.Config) -> dict[str, Any]:
    """Return the option values for the worker: those that JSON can carry unchanged."""
    options = {
        name: value
        for name, value in vars(config.option).items()
        if name not in _OURS and not name.startswith("cov") and _crosses(value)
    }
    options.update({name: value for name, value in _OFF.items() if name in options})
    options["plugins"] = [name for name in config.option.plugins if name not in _OUR_PLUGINS]
    if debugger := config.getoption("usepdb_cls", None):
        options["usepdb_cls"] = list(debugger)
    options["rootdir"] = str(config.rootpath)
    options["inifilename"] = str(config.inipath) if config.inipath else None
    options.update(_colors(config))
    options["override_ini"] = [*(getattr(config.option, "override_ini", None) or []), "required_plugins="]
    return options


_SHOWING = ("showfixtures", "show_fixtures_per_test")


class OwnRun(NamedTuple):
    """A command line that a worker reads itself, what plugins of the host can read in it, and folders to leave out.

    With `shows`, it is one that runs no test, as `--fixtures`.
    """

    arguments: tuple[str, ...]
    foreign_options: tuple[Mapping[str, object], ...]
    ignored: tuple[str, ...] = ()
    shows: bool = False


def own_arguments(config: pytest.Config) -> tuple[str, ...]:
    """Return the command line of the run as the user has given it, but for what is done on the host."""
    # An xdist worker was told by its controller.
    told = getattr(config.option, "image_arguments", None)
    if told is not None:
        return tuple(told)
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(os.fspath, config.invocation_params.args)]
    kept: list[str] = []
    for argument in given:
        if kept and kept[-1] == "-p" and argument in _OUR_PLUGINS:
            kept.pop()
        elif not argument.startswith("-p") or argument[2:].strip() not in _OUR_PLUGINS:
            kept.append(argument)
    return tuple(kept)


def own_options(config: pytest.Config, own: OwnRun) -> dict[str, Any]:
    """Return the option values to put over those that a worker has read itself."""
    options = dict(_OFF)
    del options["file_or_dir"]
    if own.shows:
        for name in _SHOWING:
            del options[name]
        options["color"] = "yes" if sys.stdout.isatty() else "no"
    options.update(_colors(config))
    if own.ignored:
        options["ignore"] = [*(config.getoption("ignore") or ()), *own.ignored]
    return options


def _colors(config: pytest.Config) -> dict[str, Any]:
    """Return the option for a terminal with colors: comparisons are highlighted where they are made, for the one here.

    Without colors nothing is said: a worker has no terminal, and `no` is not the same as none.
    """
    has_terminal = config.pluginmanager.has_plugin("terminalreporter")
    return {"color": "yes"} if has_terminal and config.get_terminal_writer().hasmarkup else {}


def only_shows(config: pytest.Config) -> bool:
    """Tell whether this run shows fixtures and runs no test."""
    return any(config.getoption(name, False) for name in _SHOWING)


@contextmanager
def parsed_so_far(config: pytest.Config) -> Iterator[None]:
    """Let options be read while pytest still parses its command line."""
    before, config.option = config.option, config.known_args_namespace
    try:
        yield
    finally:
        config.option = before


def ini_names() -> list[str]:
    """Return ini keys that the worker must accept although nothing inside reads them."""
    return list(INI_KEYS)


def import_path(trees: Sequence[ProjectTree], source_root: str) -> list[str]:
    """Return the folders to put in front of the worker's `sys.path`.

    Local Python sources come first, then the folders of the project that this process imports from.
    """
    folders = [path for entry in sys.path if (path := Path(entry or os.curdir)).is_dir()]
    places = [place for folder in folders for tree in trees if (place := tree.place(folder))]
    return [source_root, *dict.fromkeys(map(str, places))]


def project_root(config: pytest.Config) -> Path:
    """Return the folder of the whole project: the root directory, or the one above it that has the ini file."""
    beside = config.inipath.parent if config.inipath is not None else config.rootpath
    return beside if config.rootpath.is_relative_to(beside) else config.rootpath


def trees_outside(config: pytest.Config) -> list[ProjectTree]:
    """Return what pytest reads outside of the project: folders in which tests are to be run, and an ini file.

    With them come conftest files and packages in the folders above, and above the project.
    """
    root = project_root(config)
    folders = {path if path.is_dir() else path.parent for path in _named(config) if path.exists()}
    outside = [folder for folder in folders if not (folder.is_relative_to(root) or root.is_relative_to(folder))]
    tops = sorted(folder for folder in outside if not any(other in folder.parents for other in outside))
    above = dict.fromkeys(parent for folder in (root, *tops) for parent in folder.parents)
    read = [parent / name for parent in above for name in _READ_ABOVE]
    if config.inipath is not None and not config.inipath.is_relative_to(root):
        read.append(config.inipath)
    alone = [ProjectTree(root=path.parent, paths=(path.name,)) for path in read if path.is_file()]
    return [*alone, *map(read_tree, tops)]


def collected_by(item: pytest.Item) -> str:
    """Return what a worker is told to collect for an item: outside of the root directory, node ids depend on it."""
    path, config = item.path, item.config
    if path.is_relative_to(config.rootpath):
        return str(path)
    named = [each for each in _named(config) if path.is_relative_to(each)]
    return str(max(named, key=lambda each: len(each.parts), default=path))


def _named(config: pytest.Config) -> list[Path]:
    """Return the paths of the command line."""
    # While pytest still reads it, there are no final arguments.
    arguments = config.args or config.known_args_namespace.file_or_dir
    here = config.invocation_params.dir
    return [Path(os.path.abspath(here / argument.partition("::")[0])) for argument in arguments]  # noqa: PTH100 - links stay


def environment() -> dict[str, str]:
    """Return the variables of this process that a worker's pytest should see."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _crosses(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False

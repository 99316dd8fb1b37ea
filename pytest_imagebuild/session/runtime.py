"""The runtime layer: pytest and this package, put on top of an image so that tests can run in a container of it.

It is a layer like any other, kept under its key: the packages are copied and compiled once per image and pytest
version, on any engine, local or remote. They come last on `sys.path`: what the image has installed itself wins.
"""

from __future__ import annotations

import hashlib
from functools import cache

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import ImageBuildError, PythonMissingError, StepError
from pytest_imagebuild.image.canonical import digest
from pytest_imagebuild.image.steps.commands import Run
from pytest_imagebuild.plan.keys import contents_digest
from pytest_imagebuild.plan.plan import Plan, PlannedLayer
from pytest_imagebuild.plan.runtime import BEFORE_3_11, FIND_PYTHON, MODULES, python_missing, runtime_files

__all__ = ["COMMAND", "explain", "with_runtime"]

HOME = "/.imagebuild"
SITE = f"{HOME}/site-packages"
COMMAND = (f"{HOME}/start",)
"""What a session container runs."""

_PYTEST_BROKEN = 95
_TITLE = "the runtime layer (pytest)"

_LEAVE_OUT = f"""\
import os, shutil, sys
needless = {BEFORE_3_11!r} if sys.version_info >= (3, 11) else ()
try:
    import pytest
    needless = {MODULES!r}
except Exception:
    pass
for name in needless:
    path = os.path.join(sys.argv[1], name)
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path + ".py"):
        os.unlink(path + ".py")
"""
"""What the image has itself, or has no need of, must not be there: tests find out what they can import."""

_SCRIPT = f"""\
{FIND_PYTHON}\
cd / && "$python" -c '{_LEAVE_OUT.replace("'", chr(34))}' {SITE}
"$python" -m compileall -q --invalidation-mode unchecked-hash {SITE} >/dev/null 2>&1
"$python" -c 'import sys; sys.path.append("{SITE}"); import pytest' || exit {_PYTEST_BROKEN}
printf '#!/bin/sh\\nexec "%s" -u {SITE}/pytest_imagebuild/worker/__main__.py "$@"\\n' "$python" > {HOME}/start
chmod 755 {HOME}/start
"""


def with_runtime(plan: Plan) -> Plan:
    """Return the plan of the image that a session runs: `plan`'s, with the runtime layer on top."""
    top = plan.layers[-1]
    files, contents = _files()
    identity = digest({"runtime": _SCRIPT})
    return plan.with_layer(
        PlannedLayer(
            title=_TITLE,
            where=plan.image.where,
            force=False,
            base=None,
            root=top.root,
            instructions=(Run(command=_SCRIPT),),
            environment=(),
            files=files,
            tools=(),
            contents=contents,
            step=identity,
            definition=digest({"below": top.definition, "layer": identity}),
        )
    )


def explain(failure: ImageBuildError) -> ImageBuildError:
    """Return the error that a user understands, for a failure of the runtime layer; any other as it is."""
    if not isinstance(failure, StepError) or failure.step != _TITLE:
        return failure
    missing = python_missing("Tests", failure.where, failure.exit_code, failure.output)
    if missing is not None:
        return missing
    if failure.exit_code != _PYTEST_BROKEN:
        return failure
    place = f"{failure.where}: " if failure.where else ""
    return PythonMissingError(
        f"{place}Tests cannot run in this image: pytest cannot be imported beside the packages that it has. Install "
        f'pytest in the image: `.pip_install("pytest")`. The error was:\n{failure.output.strip()}'
    )


@cache
def _files() -> tuple[tuple[FileEntry, ...], str]:
    """Return the files of the layer, and the digest of them all."""
    files = tuple(
        FileEntry(path=f"{SITE}/{path}", mode=0o644, data=data, sha256=hashlib.sha256(data).hexdigest())
        for path, data in runtime_files()
    )
    return files, contents_digest(files)

"""What every engine makes of an image's configuration. `box` runs over the adapters that run containers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.services import ServiceSpec
from pytest_imagebuild.engines.work import ConfigChange, Work
from pytest_imagebuild.errors import EngineError

from .conftest import Bench, new_key, plain_labels, printed

ACTIVATING = b'#!/bin/sh\nexport ACTIVATED=yes\nexec /bin/sh -c "$1"\n'


def said_by_a_session(box: Bench, layer: object, *command: str) -> str:
    container = box.engine.start(layer, SessionSpec(command=command))  # type: ignore[arg-type]
    try:
        return printed(container)
    finally:
        container.stop()


def said_by_a_service(box: Bench, layer: object) -> str:
    service = box.engine.serve(layer, ServiceSpec())  # type: ignore[arg-type]
    try:
        for _ in range(300):
            if service.logs():
                break
            subprocess.run(["sleep", "0.1"], check=True)
        return service.logs()
    finally:
        service.stop()


def test_the_shell_of_an_image_runs_later_commands_and_starts_sessions(box: Bench) -> None:
    shell = (FileEntry(path="/activate", mode=0o755, data=ACTIVATING),)
    lower = box.build(files=shell, config=ConfigChange(shell=("/activate",)))
    upper = box.build('echo "$ACTIVATED" > /seen', on=lower)
    asked = 'printf %s "${ACTIVATED-no}"'
    assert box.run(asked) == "no"
    assert box.run(f"cat /seen; {asked}", on=upper) == "yes\nyes"
    assert said_by_a_session(box, upper, "/bin/sh", "-c", asked) == "yes"
    assert said_by_a_session(box, box.base, "/bin/sh", "-c", asked) == "no"


def test_a_shell_takes_the_words_of_a_command_as_they_are(box: Bench) -> None:
    lower = box.build(config=ConfigChange(shell=("/bin/bash", "-eo", "pipefail", "-c")))
    assert box.run("""printf '%s|' "a  b" '$HOME' "it's"; [[ -n $BASH_VERSION ]]""", on=lower) == "a  b|$HOME|it's|"
    assert said_by_a_session(box, lower, "printf", "%s|", "a  b", "$HOME", "it's") == "a  b|$HOME|it's|"


def test_folders_come_in_front_of_the_path_that_was_there(box: Bench) -> None:
    before = box.run('printf %s "$PATH"')
    lower = box.build(config=ConfigChange(search=("/one", "/two")))
    upper = box.build(on=lower, config=ConfigChange(search=("/three",)))
    assert box.run('printf %s "$PATH"', on=upper) == f"/three:/one:/two:{before}"


def test_an_entrypoint_takes_the_command_away_and_is_given_a_new_one(box: Bench) -> None:
    first = box.build(config=ConfigChange(entrypoint=("/bin/echo", "say"), command=("this",)))
    assert said_by_a_service(box, first) == "say this\n"
    second = box.build(on=first, config=ConfigChange(entrypoint=("/bin/echo", "new")))
    assert said_by_a_service(box, second) == "new\n"
    third = box.build(on=second, config=ConfigChange(command=("word",)))
    assert said_by_a_service(box, third) == "new word\n"
    fourth = box.build(on=third, config=ConfigChange(entrypoint=(), command=("/bin/echo", "alone")))
    assert said_by_a_service(box, fourth) == "alone\n"


def _with_libraries(program: str) -> tuple[FileEntry, ...]:
    """Return a program of this machine with the libraries that it is linked to."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [program, *re.findall(r"(/\S+) \(0x", listed)]
    return tuple(FileEntry(path=path, mode=0o755, source=Path(path).resolve()) for path in paths)


def test_an_image_that_begins_with_nothing_has_what_is_put_into_it(box: Bench) -> None:
    nothing = BasePin(digest="", source="scratch")
    base = box.engine.import_base("scratch", nothing, plain_labels(), print)
    again = box.engine.import_base("scratch", nothing, plain_labels(), print)
    assert {base.size, again.size} == {0}
    layer = box.build(on=base, files=_with_libraries("/bin/sh"), config=ConfigChange(environment=(("A", "b"),)))
    assert box.run('echo "$A"; test ! -e /usr/bin/env && test ! -e /etc/passwd && echo alone', on=layer) == "b\nalone\n"


def test_an_image_without_a_shell_says_so_where_a_command_needs_it(box: Bench) -> None:
    base = box.engine.import_base("scratch", BasePin(digest="", source="scratch"), plain_labels(), print)
    with pytest.raises(EngineError, match="/bin/sh"):
        box.engine.build(base, Work(commands=("true",)), box.labels(new_key()), print)

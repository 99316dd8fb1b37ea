"""Debuggers and shells in containers: what is typed goes in, what is printed comes out, as on the host."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pexpect
import pytest
from engines import EngineUnderTest, on_one_engine
from inner import Inner
from once import once

TIMEOUT = 120
PROMPT = re.escape("(Pdb) ")
PROJECT = {
    "pytest.ini": "[pytest]\n",
    "images.py": """
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.11-slim-trixie")
        """,
    "test_marked.py": """
        import time

        import pytest
        from images import IMAGE
        from pytest_imagebuild import host_fixture

        pytestmark = pytest.mark.image(IMAGE)


        @host_fixture
        def lent():
            return "by the host"


        def test_first():
            pass


        def test_breakpoint(capsys):
            answer = 41
            print("printed before")
            breakpoint()
            answer += 1
            assert answer == 42


        def test_set_trace():
            pytest.set_trace(header="a header")
            print("printed after")


        def test_fails():
            numbers = [1, 2]
            print("captured words")
            assert numbers == [1, 3]


        @pytest.fixture
        def broken():
            raise RuntimeError("in a fixture")


        def test_error(broken):
            pass


        def test_passes_after():
            pass


        class TestAlone:
            pytestmark = pytest.mark.image(IMAGE, isolation="test")

            def test_one(self):
                name = "one"
                breakpoint()

            def test_two(self):
                name = "two"
                breakpoint()


        @pytest.mark.image(IMAGE, timeout=3)
        def test_in_time(request):
            breakpoint()
            assert request.getfixturevalue("lent") == "by the host"


        @pytest.mark.image(IMAGE, env={"MODE": "by the marker"})
        def test_mode():
            pass
        """,
    "suite/test_plain.py": """
        def test_plain():
            value = 7
            breakpoint()


        def test_on_the_host():
            pass
        """,
    "suite/test_broken.py": "raise ValueError('while it is imported')\n",
    "debuggers.py": """
        import pdb


        class Loud(pdb.Pdb):
            prompt = "loud> "
        """,
}


class Project:
    """The project above, debugged."""

    def __init__(self, inner: Inner) -> None:
        self.inner = inner

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return {
            **inherited,
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.inner.engine.environment,
            "TERM": "xterm",
            "COLUMNS": "70",
        }

    def piped(self, typed: str, *arguments: str) -> tuple[int, str]:
        """Run pytest with `typed` as its input. Returns its status and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=self.inner.folder,
            env={**self.environment, "COLUMNS": "100"},
            input=typed,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def spawn(self, *arguments: str, before: str = "", after: str = "") -> pexpect.spawn[str]:
        """Run pytest on a terminal of 30 rows and 90 columns, between commands of a shell."""
        run = shlex.join([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *arguments])
        return pexpect.spawn(
            "/bin/sh",
            ["-c", f"{before}; {run}; {after}" if before else f"exec {run}"],
            cwd=str(self.inner.folder),
            env=self.environment,
            dimensions=(30, 90),
            timeout=TIMEOUT,
            encoding="utf-8",
        )

    @contextmanager
    def typed(self, *arguments: str) -> Iterator[pexpect.spawn[str]]:
        """Run pytest on a terminal, which must be as it was before at the end."""
        child = self.spawn(*arguments, before="stty -g", after="echo status=$?; stty -g")
        try:
            child.expect(r"([0-9a-f]+(?::[0-9a-f]+)+)\r\n")
            assert isinstance(child.match, re.Match)
            settings = child.match.group(1)
            yield child
            child.expect_exact(settings)
            child.expect(pexpect.EOF)
        finally:
            child.kill(signal.SIGKILL)
            child.close(force=True)


@pytest.fixture(scope="module")
def project(engine: EngineUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project; nothing of what a test does in it stays."""
    return Project(Inner(tmp_path_factory.mktemp("debugging"), engine).write(PROJECT))


ALIKE = {
    "breakpoint": ("p answer\np capsys is not None\nc\n", ["-k", "breakpoint or first"]),
    "set_trace, twice": ("c\np 1\nc\n", ["-v", "-k", "breakpoint or set_trace"]),
    "quit": ("q\n", ["-k", "set_trace or after"]),
    "without input": ("", ["--tb=no", "-k", "set_trace or after"]),
    "without capture": ("p answer\nc\n", ["-s", "-k", "breakpoint or after"]),
    "--capture=sys": ("p answer\nc\n", ["--capture=sys", "-k", "breakpoint or after"]),
    "--capture=tee-sys": ("p answer\nc\n", ["--capture=tee-sys", "-k", "breakpoint or after"]),
    "--pdb": ("p numbers\nc\n", ["--pdb", "-k", "fails or after"]),
    "--pdb, in a fixture": ("up\nc\n", ["--pdb", "-k", "error or after"]),
    "--pdb, twice, then quit": ("p numbers\nc\nq\n", ["--pdb", "-k", "fails or error or after"]),
    "--pdb, nothing fails": ("", ["--pdb", "-k", "first or after"]),
    "--trace": ("n\nn\np answer\nc\nc\n", ["--trace", "-k", "breakpoint"]),
    "--trace, to the end": ("n\nn\nn\n", ["--trace", "-k", "first"]),
    "--pdbcls": ("p answer\nc\n", ["--pdbcls=debuggers:Loud", "-k", "breakpoint"]),
}


@pytest.mark.parametrize(("typed", "arguments"), ALIKE.values(), ids=list(ALIKE))
def test_a_debugger_says_the_same_inside_as_on_the_host(
    project: Project, common: Path, typed: str, arguments: list[str]
) -> None:
    status, text = project.piped(typed, "test_marked.py", *arguments)
    host = once(common, (typed, arguments), lambda: _told(project, typed, "test_marked.py", *arguments, "--no-image"))
    assert _alike(project, text) == host[1]
    assert status == host[0]
    assert "imagebuild (" in text


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("p value\nc\n", ["suite/test_plain.py"]),
        ("p value\nc\n", ["-v", "suite/test_plain.py"]),
        ("c\n", ["--pdb", "suite/test_broken.py"]),
    ],
    ids=["breakpoint", "breakpoint -v", "collection"],
)
def test_a_suite_in_an_image_is_debugged_as_on_the_host(
    project: Project, common: Path, typed: str, arguments: list[str]
) -> None:
    inside = _told(project, typed, *arguments, "--image=images.py:IMAGE")
    host = once(common, (typed, arguments), lambda: _told(project, typed, *arguments))
    assert inside[1] == host[1]
    assert inside[0] == host[0]


def test_a_debugger_that_is_left_while_files_are_collected_ends_the_run(project: Project) -> None:
    status, text = project.piped("q\n", "--pdb", "suite", "--image=images.py:IMAGE")
    assert "while it is imported" in text
    assert text.count("(Pdb) ") == 1
    assert "Exit: Quitting debugger" in text
    assert status == pytest.ExitCode.INTERRUPTED


def test_the_terminal_is_that_of_the_user(project: Project) -> None:
    with project.typed("test_marked.py", "-k", "breakpoint") as child:
        child.expect(PROMPT)
        child.sendline("import os; os.get_terminal_size(), os.isatty(0), os.isatty(1), os.environ['TERM']")
        child.expect_exact("(os.terminal_size(columns=90, lines=30), True, True, 'xterm')")
        child.expect(PROMPT)
        child.setwinsize(20, 50)
        _until_answered(child, "os.get_terminal_size()", "columns=50, lines=20")
        # Keys, not lines: a backspace, then the arrow that brings the last line back.
        child.send("print(answerr\x7f)\r")
        child.expect(r"\n41\r")
        child.expect(PROMPT)
        child.send("\x1b[A\r")
        child.expect(r"\n41\r")
        child.expect(PROMPT)
        child.sendline("c")
        child.expect("1 passed")
        child.expect("status=0")


def test_ctrl_c_reaches_what_runs_in_the_debugger(project: Project) -> None:
    with project.typed("test_marked.py", "-k", "breakpoint") as child:
        child.expect(PROMPT)
        child.sendline("print('it ' + 'loops')\nwhile True: pass")
        child.expect("it loops")
        time.sleep(0.5)
        child.sendintr()
        child.expect("KeyboardInterrupt")
        child.expect(PROMPT)
        child.sendline("c")
        child.expect("1 passed")


def test_isolated_tests_have_the_terminal_one_after_the_other(project: Project) -> None:
    with project.typed("test_marked.py", "-k", "Alone") as child:
        for name in ("one", "two"):
            child.expect(PROMPT)
            child.sendline("name")
            child.expect_exact(f"'{name}'")
            child.expect(PROMPT)
            child.sendline("c")
        child.expect("2 passed")


def test_the_time_of_the_user_is_not_that_of_the_test(project: Project) -> None:
    with project.typed("test_marked.py", "-k", "in_time") as child:
        child.expect(PROMPT)
        time.sleep(4)
        child.sendline("c")
        child.expect("1 passed")


def test_a_worker_that_dies_in_a_debugger_gives_the_terminal_back(project: Project) -> None:
    with project.typed("test_marked.py", "-k", "breakpoint or after") as child:
        child.expect(PROMPT)
        child.sendline("import os; os._exit(3)")
        child.expect("1 failed, 1 passed")
        child.expect("status=1")


def test_pytest_killed_in_a_debugger_leaves_nothing(project: Project, nonce: str) -> None:
    # Without a check of the terminal: nobody could set it back.
    child = project.spawn("test_marked.py", "-k", "breakpoint")
    child.expect(PROMPT)
    child.sendline(f"import subprocess; subprocess.Popen(['sh', '-c', ': {nonce}; sleep 600']).pid > 0")
    child.expect("True")
    assert _processes_with(nonce)
    child.kill(signal.SIGKILL)
    end = time.monotonic() + 30
    while _processes_with(nonce):
        assert time.monotonic() < end
        time.sleep(0.1)
    child.close(force=True)


SHELL = ["--image-shell", "test_marked.py::test_mode"]


def test_a_shell_opens_in_the_container_of_a_test(project: Project) -> None:
    with project.typed(*SHELL) as child:
        child.expect("# ")
        child.sendline("stty size; pwd; echo $MODE; ls")
        child.expect("30 90")
        child.expect_exact(str(project.inner.folder))
        child.expect("by the marker")
        child.expect("test_marked.py")
        child.expect("# ")
        child.sendline("sleep 600")
        time.sleep(0.5)
        child.sendintr()
        child.expect("# ")
        child.sendline("exit 5")
        child.expect("no tests ran")
        child.expect("status=5")


def test_a_shell_takes_a_script(project: Project) -> None:
    script = "echo one > /made; cat /made; python3 -c 'import images, sys; print(sys.version_info[:2])'; exit 7\n"
    status, text = project.piped(script, *SHELL)
    assert status == 7
    assert "\none\n(3, 11)\n" in text
    assert not Path("/made").exists()


def test_a_shell_runs_the_test(project: Project) -> None:
    status, text = project.piped("python3 -m pytest -q --noconftest suite/test_plain.py -k host\n", *SHELL)
    assert "1 passed, 1 deselected" in text
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image-shell", "test_marked.py::test_nobody_knows"], "ERROR: not found: "),
        (["--image-shell", "suite/test_plain.py::test_plain"], "suite/test_plain.py::test_plain runs on the host"),
        ([*SHELL, "-n", "2"], "--image-shell needs a container and a terminal: leave out -n and --no-image."),
        ([*SHELL, "--no-image"], "--image-shell needs a container and a terminal: leave out -n and --no-image."),
    ],
    ids=["unknown", "unmarked", "xdist", "no image"],
)
@on_one_engine()
def test_a_shell_that_cannot_be_opened_is_an_error(project: Project, arguments: list[str], sentence: str) -> None:
    status, text = project.piped("", *arguments)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert sentence in text


def _told(project: Project, typed: str, *arguments: str) -> tuple[int, list[str]]:
    """Return the status of a run, and its lines as `_alike` has them."""
    status, text = project.piped(typed, *arguments)
    return status, _alike(project, text)


def _alike(project: Project, text: str) -> list[str]:
    """Return the lines of a run, without what tells where it ran and how long it took."""
    text = text.replace(str(project.inner.folder), "PROJECT")
    text = re.sub(r"in \d+\.\d+s", "in 0s", text)
    # What pytest has imported, and where from.
    text = re.sub(r"/\S*/((?:_pytest|importlib)/\S+?)[:(]\d+", r"\1:0", text)
    text = re.sub(r"\bconfigfile: .*", "", text)
    text = re.sub(r"=+( [^=\n]* )=+", r"=\1=", text)
    return [line for line in text.splitlines() if line and not line.startswith("imagebuild")]


def _until_answered(child: pexpect.spawn[str], question: str, answer: str) -> None:
    """Ask until the answer comes: what happened before takes a moment to be known inside."""
    for _ in range(20):
        child.sendline(question)
        child.expect(PROMPT)
        if answer in (child.before or ""):
            return
        time.sleep(0.1)
    pytest.fail(f"{question} is never answered by {answer}: {child.before}")


def _processes_with(text: str) -> list[str]:
    """Return the processes whose command line holds `text`."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and text.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found

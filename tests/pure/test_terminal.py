"""What a user sees of builds."""

from __future__ import annotations

import io
import threading
import time

import pytest

from pytest_imagebuild.terminal import LINE_LIMIT, BuildDisplay, summary_line

ESCAPES = "\x1b[31mred\x1b[0m \x1b]0;\x07\x08\x00\x7f\x9b2J \x1b(Bdone\r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def build(display: BuildDisplay) -> None:
    """Play a run: three layers, one built, one failed, one found."""
    with display.showing():
        display.missed('apt_install("git")', "the step changed")
        display.begun("1", "py3.13", 'apt_install("git")')
        display.begun("2", "debian", 'run_commands("make [all]")')
        display.begun("3", "debian", 'env({"A": "1"})')
        display.said("1", "Unpacking git ...")
        display.built("1", 2.34)
        display.failed("2")
        display.reused("3")
        display.note("bootstrapping")


def shown(*, verbose: bool = False) -> list[str]:
    stream = io.StringIO()
    build(BuildDisplay(stream=stream, verbose=verbose))
    return stream.getvalue().splitlines()


def test_without_a_terminal_each_layer_is_one_line_when_it_ends() -> None:
    assert shown() == [
        'imagebuild: py3.13: apt_install("git"): built in 2.3s',
        'imagebuild: debian: run_commands("make [all]"): FAILED',
        'imagebuild: debian: env({"A": "1"}): found in the cache',
        "imagebuild: bootstrapping",
    ]


def test_verbose_adds_reasons_beginnings_and_output() -> None:
    assert shown(verbose=True) == [
        'imagebuild: not cached: apt_install("git"): the step changed',
        'imagebuild: py3.13: apt_install("git") ...',
        'imagebuild: debian: run_commands("make [all]") ...',
        'imagebuild: debian: env({"A": "1"}) ...',
        "imagebuild: py3.13: | Unpacking git ...",
        'imagebuild: py3.13: apt_install("git"): built in 2.3s',
        'imagebuild: debian: run_commands("make [all]"): FAILED',
        'imagebuild: debian: env({"A": "1"}): found in the cache',
        "imagebuild: bootstrapping",
    ]


@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_shows_nothing(stream: type[io.StringIO], verbose: bool) -> None:
    target = stream()
    build(BuildDisplay(stream=target, quiet=True, verbose=verbose))
    assert target.getvalue() == ""


def test_control_characters_of_a_build_do_not_reach_the_terminal() -> None:
    stream = io.StringIO()
    display = BuildDisplay(stream=stream, verbose=True)
    display.begun("1", "i", "t")
    display.said("1", ESCAPES)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("imagebuild: i: | red ")
    assert last.endswith("done")
    assert all(character.isprintable() for character in last)


def test_a_long_line_of_a_build_is_cut() -> None:
    stream = io.StringIO()
    display = BuildDisplay(stream=stream, verbose=True)
    display.begun("1", "i", "t")
    display.said("1", "x" * 10_000)
    assert stream.getvalue().splitlines()[-1] == "imagebuild: i: | " + "x" * LINE_LIMIT


def test_what_is_said_of_a_layer_that_never_began_is_dropped() -> None:
    stream = io.StringIO()
    display = BuildDisplay(stream=stream, verbose=True)
    display.said("1", "hello")
    display.built("1", 1.0)
    display.failed("2")
    assert stream.getvalue() == ""


def test_a_layer_ends_once() -> None:
    stream = io.StringIO()
    display = BuildDisplay(stream=stream)
    display.begun("1", "i", "t")
    display.built("1", 1.0)
    display.built("1", 1.0)
    assert stream.getvalue().count("\n") == 1


# live ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def test_on_a_terminal_the_lines_stay_and_the_rows_go(terminal: Terminal) -> None:
    build(BuildDisplay(stream=terminal, verbose=True))
    text = terminal.getvalue()
    assert 'py3.13: apt_install("git"): built in 2.3s' in text
    assert 'debian: run_commands("make [all]"): FAILED' in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_on_a_terminal_rows_show_the_step_and_its_last_line(terminal: Terminal) -> None:
    display = BuildDisplay(stream=terminal)
    with display.showing():
        display.begun("1", "py3.13", 'apt_install("git")')
        display.said("1", f"[bold]Unpacking[/bold] {ESCAPES}")
        deadline = time.monotonic() + 5
        while "[bold]Unpacking[/bold]" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert 'py3.13: apt_install("git")' in terminal.getvalue()
    assert "[bold]Unpacking[/bold]" in terminal.getvalue()
    assert "\x9b" not in terminal.getvalue()


def test_a_display_can_be_shown_again(terminal: Terminal) -> None:
    display = BuildDisplay(stream=terminal)
    build(display)
    build(display)
    assert terminal.getvalue().count("FAILED") == 2


def test_drawing_the_rows_never_waits_for_a_thread_that_prints() -> None:
    # rich draws with its own lock held, and a thread that prints needs that lock while it holds ours.
    display = BuildDisplay(stream=io.StringIO())
    display.begun("1", "i", "t")
    drawn = threading.Thread(target=display._table, daemon=True)
    with display._guard:
        drawn.start()
        drawn.join(timeout=5)
        assert not drawn.is_alive()


def test_threads_may_report_while_the_rows_are_drawn(terminal: Terminal) -> None:
    display = BuildDisplay(stream=terminal)

    def work(number: int) -> None:
        for turn in range(20):
            layer = f"{number}-{turn}"
            display.begun(layer, "i", layer)
            display.said(layer, "x")
            display.built(layer, 0.0)

    with display.showing():
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)
    assert terminal.getvalue().count("built in 0.0s") == 80


# the summary line ---------------------------------------------------------------------------------------------------


def counts(
    reused: int, built: int, seconds: float = 0.0, engine: str = "docker", kept: int = 0
) -> dict[str, float | str]:
    return {"reused": reused, "built": built, "seconds": seconds, "engine": engine, "kept": kept}


@pytest.mark.parametrize(
    ("processes", "line"),
    [
        ([counts(5, 0)], "imagebuild (docker): layers: reused 5, built 0"),
        ([counts(2, 3, 4.25)], "imagebuild (docker): layers: reused 2, built 3 in 4.2s"),
        ([counts(0, 3, 2.0), counts(3, 0)], "imagebuild (docker): layers: reused 0, built 3 in 2.0s"),
        ([counts(2, 1, 2.0), counts(1, 2, 3.0)], "imagebuild (docker): layers: reused 0, built 3 in 5.0s"),
        ([counts(4, 0), counts(4, 0)], "imagebuild (docker): layers: reused 4, built 0"),
        ([counts(1, 1, 1.0), counts(2, 0, engine="")], "imagebuild (docker): layers: reused 1, built 1 in 1.0s"),
        ([counts(1, 0), counts(1, 0, engine="memory")], "imagebuild (docker, memory): layers: reused 1, built 0"),
        ([], "imagebuild (): layers: reused 0, built 0"),
        (
            [counts(4, 0, kept=1), counts(4, 0, kept=2)],
            "imagebuild (docker): layers: reused 4, built 0; containers kept: 3",
        ),
    ],
)
def test_the_summary_counts_the_layers_of_all_processes_once(
    processes: list[dict[str, float | str]], line: str
) -> None:
    assert summary_line(processes) == line

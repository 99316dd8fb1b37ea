"""What is reused, what is built, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from bases import OwnBase
from engines import EngineUnderTest, Events

TIMEOUT = 120

INSIDE = """
import pytest
from pytest_imagebuild import Image

image = Image.from_registry("{base}").env({{"NONCE": "{nonce}"}}).{call}

@pytest.mark.image(image)
def test_inside():
    {body}
"""


@pytest.fixture
def events(engine: EngineUnderTest) -> Iterator[Events]:
    with engine.events() as events:
        yield events


class Chain:
    """A project with an image that only the host builds: `run` builds it and returns what was made."""

    def __init__(self, project: pytest.Pytester, base: OwnBase, nonce: str, events: Events) -> None:
        self.project = project
        self.output = ""
        self._base = base
        self._nonce = nonce
        self._events = events
        self._seen = 0

    def run(self, *images: str, flags: tuple[str, ...] = (), passes: bool = True) -> list[str]:
        """Build images, each the calls after the base; return the steps that were made."""
        lines = ["from pytest_imagebuild import Image", f'base = Image.from_registry("{self._base.reference}")']
        lines += [f"def test_{n}(image_build): image_build(base.{calls})" for n, calls in enumerate(images)]
        self.project.makepyfile(test_chain="\n".join(lines))
        result = self.project.runpytest_subprocess("-s", *flags, timeout=TIMEOUT)
        assert (result.ret == 0) == passes, result.stdout.str()
        self.output = result.stdout.str()
        commits = self._events.commits()
        new, self._seen = commits[self._seen :], len(commits)
        return new

    def step(self, name: str) -> str:
        """Return a call that makes a layer, which no other test has."""
        return f'run_commands(": {name} {self._nonce}")'


@pytest.fixture
def chain(project: pytest.Pytester, base: OwnBase, nonce: str, events: Events) -> Chain:
    return Chain(project, base, nonce, events)


def test_a_second_run_builds_nothing_changes_nothing_and_needs_no_registry(
    project: pytest.Pytester, base: OwnBase, nonce: str, events: Events, engine: EngineUnderTest
) -> None:
    project.makepyfile(INSIDE.format(base=base.reference, nonce=nonce, call='workdir("/somewhere")', body="pass"))
    first = project.runpytest_subprocess(timeout=TIMEOUT)
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines([f"imagebuild ({engine.name}): layers: reused 0, built 4 in *s"])
    made = len(events.commits())
    visits = base.visits
    base.shut()

    with engine.recorded() as recording:
        second = project.runpytest_subprocess(timeout=TIMEOUT)

    second.assert_outcomes(passed=1)
    second.stdout.fnmatch_lines([f"imagebuild ({engine.name}): layers: reused 4, built 0"])
    assert len(events.commits()) == made
    assert base.visits == visits
    assert recording.changes() == []
    assert recording.look_ups() <= 2, "one look-up of layers, one for leftovers"


def test_a_change_in_the_middle_builds_only_what_is_above_it(chain: Chain) -> None:
    a, b, c, d = map(chain.step, "ABCD")

    first = chain.run(f"{a}.{b}.{d}")
    changed = chain.run(f"{a}.{c}.{d}")
    back = chain.run(f"{a}.{b}.{d}")

    assert first[1:] == [a, b, d]
    assert changed == [c, d]
    assert back == []


MARKED = """
import pytest
from pytest_imagebuild import Image

shared = Image.from_registry("{base}").run_commands(": SHARED {nonce}")
timed = "date +%s.%N > /times; sleep 2; date +%s.%N >> /times"
left = shared.run_commands(f": LEFT {nonce}; {{timed}}")
right = shared.run_commands(f": RIGHT {nonce}; {{timed}}")

@pytest.mark.image(left, right)
def test_inside():
    pass
"""


def test_a_shared_prefix_is_built_once_and_what_is_independent_side_by_side(
    project: pytest.Pytester, base: OwnBase, nonce: str, events: Events, engine: EngineUnderTest
) -> None:
    project.makepyfile(MARKED.format(base=base.reference, nonce=nonce))

    result = project.runpytest_subprocess("--image-build-only", timeout=TIMEOUT)

    assert result.ret in {0, 5}
    steps = events.commits()
    for name, times in {"SHARED": 1, "LEFT": 1, "RIGHT": 1, "runtime": 2}.items():
        assert sum(name in step for step in steps) == times, steps
    layers = [made.layer for made in events.made() if "LEFT" in made.step or "RIGHT" in made.step]
    left, right = ([float(word) for word in engine.output_of(layer, ["cat", "/times"]).split()] for layer in layers)
    assert max(left[0], right[0]) < min(left[1], right[1]), "the two steps did not overlap"


def test_verbose_says_why_a_layer_is_not_in_the_cache(chain: Chain, base: OwnBase) -> None:
    project, step = chain.project, chain.step
    file = project.path / "file.txt"
    file.write_text("one")
    copy = 'add_local_file("file.txt", "/file.txt", copy=True)'

    def reasons(calls: str) -> list[str]:
        chain.run(calls, flags=("-v",))
        return re.findall(r"not cached: (.*)", chain.output)

    no_record = f'from_registry("{base.reference}"): the lockfile has no record for it that may be used'
    assert reasons(f"{step('A')}.{copy}.{step('B')}") == [no_record]
    assert reasons(f"{step('C')}.{copy}") == [f"{step('C')}: the step changed: it was {step('A')}"]
    file.write_text("two")
    assert reasons(f"{step('A')}.{copy}.{step('B')}") == [f"{copy}: the content of its local files changed"]
    assert reasons(f"{step('A')}.{step('B')}") == [f"{step('B')}: a layer below changed"]
    other = base.publish(label="another")
    lockfile = project.path / "imagebuild.lock"
    lockfile.write_text(re.sub(r"sha256:\w+", other, lockfile.read_text()))
    assert reasons(step("A")) == [f'from_registry("{base.reference}"): its pins in the lockfile changed']


def test_an_edit_of_a_lazily_added_source_is_seen_and_builds_nothing(
    project: pytest.Pytester, base: OwnBase, nonce: str, events: Events
) -> None:
    body = "import answers; assert answers.answer == 'old'"
    source = project.makepyfile(answers="answer = 'old'")
    project.makepyfile(
        test_inside=INSIDE.format(
            base=base.reference, nonce=nonce, call='add_local_python_source("answers")', body=body
        )
    )
    flags = ("-o", "pythonpath=.", "-o", "image_sync=!answers.py")
    project.runpytest_subprocess(*flags, timeout=TIMEOUT).assert_outcomes(passed=1)
    made = len(events.commits())

    source.write_text("answer = 'new'")
    result = project.runpytest_subprocess(*flags, timeout=TIMEOUT)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E  *AssertionError: assert 'new' == 'old'", "*layers: reused 3, built 0"])
    assert len(events.commits()) == made


def test_a_failing_step_leaves_nothing_and_later_steps_are_not_run(
    chain: Chain, engine: EngineUnderTest, nonce: str, events: Events
) -> None:
    good, later = chain.step("GOOD"), chain.step("LATER")
    bad = f'run_commands("sleep 0.3; echo BAD {nonce} >&2; exit 3")'

    made = chain.run(f"{good}.{bad}.{later}", passes=False)
    assert made[1:] == [good]
    assert f"BAD {nonce}" in chain.output
    assert set(engine.layers(nonce).values()) == {made.layer for made in events.made()}
    assert len(events.started()) == 2, "the base, the good step and the bad one make containers; two run commands"

    fixed = chain.step("FIXED")
    assert chain.run(f"{good}.{fixed}.{later}") == [fixed, later]

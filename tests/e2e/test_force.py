"""Forced builds and builds that ignore the cache: what is built, and what the next runs find."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from bases import OwnBase
from engines import CHOSEN, EngineUnderTest, Events
from running import Running

TIMEOUT = 120

# The step that a test may force is in the middle of `own`; `other` shares what is below it.
IMAGES = """
from pytest_imagebuild import Image

shared = Image.from_registry("{base}").env({{"SHARED": "{nonce}"}})
own = shared.run_commands(": MIDDLE {nonce}", force_build={force}).env({{"TOP": "{nonce}"}})
other = shared.env({{"OTHER": "{nonce}"}})

def test_own(image_build):
    print("layer", image_build(own).reference)

def test_other(image_build):
    print("layer", image_build(other).reference)
"""

BASE, SHARED, MIDDLE, TOP, OTHER = "from_registry", "SHARED", "MIDDLE", "TOP", "OTHER"
NOTHING: list[str] = []
WHOLE = [BASE, SHARED, MIDDLE, TOP]


@dataclass(kw_only=True, slots=True)
class Made:
    """What one run of pytest did: the steps whose layers were made, in order, and the layer that the test got."""

    steps: list[str]
    layer: str


@dataclass(kw_only=True, slots=True)
class Runs:
    """Runs of pytest in one project, seen from the engine."""

    project: pytest.Pytester
    events: Events
    seen: int = 0

    def of(self, test: str, *flags: str, **environment: str) -> Made:
        """Run the test of one image, with flags and variables."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            result = self.project.runpytest_subprocess("-k", test, "-rP", *flags, timeout=TIMEOUT)
        result.assert_outcomes(passed=1, deselected=1)
        commits = self.events.commits()
        new, self.seen = commits[self.seen :], len(commits)
        layer = re.search(r"^layer (\S+)$", result.stdout.str(), re.MULTILINE)
        assert layer
        return Made(steps=[_short(step) for step in new], layer=layer[1])


def _short(step: str) -> str:
    return next(name for name in (BASE, SHARED, MIDDLE, TOP, OTHER) if name in step)


@pytest.fixture
def runs(project: pytest.Pytester, base: OwnBase, nonce: str, engine: EngineUnderTest) -> Iterator[Runs]:
    project.makepyfile(test_images=IMAGES.format(base=base.reference, nonce=nonce, force=False))
    with engine.events() as events:
        yield Runs(project=project, events=events)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is built by a run of `own`, then by a plain run of `other`, then by a plain run of `own`.

    `replaced` says whether the cache has another layer for `own` in the end.
    """

    own: list[str]
    other: list[str]
    again: list[str]
    replaced: bool


FORCED = Case(own=WHOLE, other=[OTHER], again=NOTHING, replaced=True)
IGNORED = Case(own=WHOLE, other=NOTHING, again=NOTHING, replaced=False)
UNTOUCHED = Case(own=NOTHING, other=NOTHING, again=NOTHING, replaced=False)

Told = tuple[tuple[str, ...], dict[str, str], Case]
"""Flags and variables, and what they do."""


BY_FLAG: Mapping[str, Told] = {
    "--force-build": (("--force-build",), {}, FORCED),
    "--ignore-image-cache": (("--ignore-image-cache",), {}, IGNORED),
}
BY_VARIABLE: Mapping[str, Told] = {
    "MODAL_FORCE_BUILD=no": ((), {"MODAL_FORCE_BUILD": "no"}, FORCED),
    "--force-build and MODAL_IGNORE_CACHE=no": (("--force-build",), {"MODAL_IGNORE_CACHE": "no"}, IGNORED),
    "0 and False are off": ((), {"MODAL_FORCE_BUILD": "0", "MODAL_IGNORE_CACHE": "False"}, UNTOUCHED),
}
"""What an engine is asked for is the same as by the flags."""


@pytest.mark.parametrize(
    ("engine", "flags", "variables", "case"),
    [
        pytest.param(engine, *told, id=f"{name}-{engine}")
        for engine in CHOSEN
        for name, told in {**BY_FLAG, **(BY_VARIABLE if engine == CHOSEN[-1] else {})}.items()
    ],
    indirect=["engine"],
    scope="session",
)
def test_a_run_that_is_told_to_build_does_what_the_table_says(
    runs: Runs,
    engine: EngineUnderTest,
    nonce: str,
    flags: tuple[str, ...],
    variables: dict[str, str],
    case: Case,
) -> None:
    assert runs.of("other").steps == [BASE, SHARED, OTHER]
    first = runs.of("own")
    assert first.steps == [MIDDLE, TOP]
    before = engine.layers(nonce)

    own = runs.of("own", *flags, **variables)
    kept = engine.layers(nonce)
    other = runs.of("other")
    again = runs.of("own")

    assert own.steps == case.own
    assert other.steps == case.other
    assert again.steps == case.again
    assert (own.layer == first.layer) == (case.own == NOTHING)
    assert (again.layer == first.layer) == (not case.replaced)
    assert again.layer == (own.layer if case.replaced else first.layer)
    if case.replaced:
        assert before.keys() <= kept.keys()
        moved = [name for name in before if kept[name] != before[name]]
        assert len(moved) == 1, "the base keeps its key, which names another layer now; what is above it has new keys"
    else:
        assert kept == before, "a run that may not touch the cache did"


def test_a_forced_step_is_rebuilt_with_all_later_ones_in_each_run_and_what_is_below_is_not(
    runs: Runs, base: OwnBase, nonce: str, project: pytest.Pytester
) -> None:
    project.makepyfile(test_images=IMAGES.format(base=base.reference, nonce=nonce, force=True))

    first = runs.of("own")
    second = runs.of("own")
    other = runs.of("other")
    third = runs.of("own")

    assert first.steps == WHOLE
    assert second.steps == [MIDDLE, TOP]
    assert other.steps == [OTHER]
    assert third.steps == [MIDDLE, TOP]
    assert len({first.layer, second.layer, third.layer}) == 3


def test_what_a_forced_build_replaced_is_swept_away_later(runs: Runs, nonce: str, engine: EngineUnderTest) -> None:
    runs.of("own")
    runs.of("own", "--force-build")
    assert len(engine.layers(nonce)) == 7, "the base has one key, each layer above it two"

    engine.sweep_settled(nonce)

    assert len(engine.layers(nonce)) == 4
    assert engine.remains(nonce) == []
    assert runs.of("own").steps == NOTHING


MARKED = """
import pytest
from pytest_imagebuild import Image

own = Image.from_registry("{base}").env({{"SHARED": "{nonce}"}})

@pytest.mark.parametrize("number", range(4))
@pytest.mark.image(own)
def test_inside(number):
    import os
    assert os.environ["SHARED"] == "{nonce}"
"""


@pytest.mark.parametrize("flag", ["--force-build", "--ignore-image-cache"])
def test_the_workers_of_one_xdist_run_build_each_layer_once_between_them(
    project: pytest.Pytester, base: OwnBase, nonce: str, engine: EngineUnderTest, flag: str
) -> None:
    project.makepyfile(MARKED.format(base=base.reference, nonce=nonce))
    project.runpytest_subprocess("--image-build-only", timeout=TIMEOUT)
    before = engine.layers(nonce)

    with engine.events() as events:
        result = project.runpytest_subprocess("-n", "4", flag, timeout=TIMEOUT)
        commits = events.commits()

    result.assert_outcomes(passed=4)
    assert len(commits) == len(set(commits)) == 3, commits
    if flag == "--ignore-image-cache":
        assert engine.layers(nonce) == before
    assert engine.thrown_away(nonce) == []


def test_the_layers_of_a_run_that_ignores_the_cache_are_gone_after_it(
    project: pytest.Pytester, base: OwnBase, nonce: str, engine: EngineUnderTest
) -> None:
    project.makepyfile(MARKED.format(base=base.reference, nonce=nonce))

    result = project.runpytest_subprocess("--ignore-image-cache", timeout=TIMEOUT)

    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([f"imagebuild ({engine.name}): layers: reused 0, built 3 in *s"])
    assert engine.layers(nonce) == {}
    assert engine.thrown_away(nonce) == []


def test_runs_that_force_and_ignore_at_once_are_green_and_the_next_ones_find_one_whole_chain(
    runs: Runs, project: pytest.Pytester, engine: EngineUnderTest, nonce: str
) -> None:
    before = runs.of("own")
    flags = ("--force-build", "--force-build", "--ignore-image-cache")
    with ExitStack() as stack:
        begun = [stack.enter_context(Running(project.path, "-k", "own", flag)) for flag in flags]
        for run in begun:
            assert run.wait(TIMEOUT) == 0, run.output

    commits = runs.events.commits()
    again = commits[len(WHOLE) :]
    assert [sum(step in commit for commit in again) for step in WHOLE] == [3] * len(WHOLE)
    runs.seen = len(commits)
    after = runs.of("own")
    assert after.steps == NOTHING
    assert after.layer != before.layer
    assert runs.of("other").steps == [OTHER]
    assert runs.of("own") == after
    engine.sweep_settled(nonce)
    assert engine.remains(nonce) == []

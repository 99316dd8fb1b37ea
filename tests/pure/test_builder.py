"""Building plans: the warm path, what is shared, force and ignore, failures, locked and upgraded pins."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doubles import BASE, Memory, World, plan

from pytest_imagebuild import DefinitionError, Image
from pytest_imagebuild.engines.memory import CommandResult
from pytest_imagebuild.errors import BaseImageError, LocalFileError, LockfileError, StepError
from pytest_imagebuild.lockfile import Pin

ROOT = 'from_registry("debian:trixie")'


def step(command: str) -> str:
    return f'run_commands("{command}")'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# the warm path ------------------------------------------------------------------------------------------------------


BETWEEN = 'run_commands("between")'


def test_a_warm_run_asks_the_engine_for_its_layers_once_and_for_nothing_else(world: World) -> None:
    images = [plan(BASE.apt_install("git")), plan(BASE.pip_install("six").run_commands("true"))]
    world.builder("first").build_all(images)
    world.engine.calls.clear()
    builder = world.builder("second")
    tops = [future.result() for future in builder.build_all(images)]
    assert [call.name for call in world.engine.calls] == ["capabilities", "layers"]
    assert [top.labels.step for top in tops] == ['apt_install("git")', step("true")]
    assert (builder.tally.built, builder.tally.reused) == (0, 4)


def test_a_cold_run_makes_the_layers_in_the_order_of_the_chain(world: World) -> None:
    builder = world.builder("first")
    top = builder.build(plan(BASE.run_commands("a").run_commands("b")))
    assert world.made() == [ROOT, step("a"), step("b")]
    assert world.engine.images[top.reference].commands == ("a", "b")
    assert (builder.tally.built, builder.tally.reused) == (3, 0)


def test_only_what_is_above_the_deepest_built_layer_is_made(world: World) -> None:
    common = BASE.run_commands("a").run_commands("b")
    world.builder("first").build(plan(common.run_commands("c").run_commands("d")))
    done = len(world.engine.calls)
    builder = world.builder("second")
    builder.build(plan(common.run_commands("x").run_commands("d")))
    assert world.made(since=done) == [step("x"), step("d")]
    assert (builder.tally.built, builder.tally.reused) == (2, 3)


def test_a_layer_that_somebody_removed_is_made_again_and_what_is_above_it_is_found(world: World) -> None:
    image = plan(BASE.run_commands("a").run_commands("b"))
    top = world.builder("first").build(image)
    middle = next(key for _, key in world.engine._layers if key == top.labels.parent)
    del world.engine._layers["", middle]
    done = len(world.engine.calls)
    assert world.builder("second").build(image) == top
    assert world.made(since=done) == [step("a")]


def test_no_lock_is_taken_for_what_is_built(world: World) -> None:
    image = plan(BASE.run_commands("a"))
    world.builder("first").build(image)
    locks = world.folder / "cache" / "locks"
    for lock in locks.rglob("*.lock"):
        lock.unlink()
    world.builder("second").build_all([image])
    assert list(locks.rglob("*.lock")) == []


# side by side -------------------------------------------------------------------------------------------------------


def test_threads_build_a_shared_prefix_once(world: World) -> None:
    world.shell.pause = 0.01
    common = BASE.run_commands("a").pip_install("six")
    images = [plan(common.run_commands(name)) for name in ("w", "x", "y", "z")]
    builder = world.builder("first")
    tops = [future.result().labels.key for future in builder.build_all(images)]
    assert Counter(world.made()) == Counter(
        [ROOT, step("a"), 'pip_install("six")', step("w"), step("x"), step("y"), step("z")]
    )
    assert len(set(tops)) == 4
    assert (builder.tally.built, builder.tally.reused) == (7, 0)
    assert len(world.shell.resolutions) == 1


def test_a_layer_that_images_of_a_run_share_is_told_of_once(world: World) -> None:
    world.shell.pause = 0.01
    common = BASE.run_commands("a").pip_install("six")
    images = [plan(common.run_commands(name)) for name in ("w", "x", "y", "z")]
    progress = Memory()
    world.builder("first", progress=progress).build_all(images)
    assert Counter(progress.titles) == Counter(world.made())
    assert progress.ended == ["built"] * 7
    assert set(Counter(progress.reasons).values()) == {1}


def test_what_images_of_a_run_share_is_locked_and_told_of_once(world: World) -> None:
    world.shell.pause = 0.01
    common = BASE.pip_install("six")
    progress = Memory()
    world.builder("first", progress=progress).lock_all([plan(common.run_commands(name)) for name in ("w", "x", "y")])
    assert progress.titles == [ROOT, 'pip_install("six")']
    assert progress.ended == ["built", "pinned"]


def test_a_layer_that_another_process_has_built_meanwhile_is_told_of_as_found(world: World) -> None:
    image = plan(BASE.run_commands("a"))
    progress = Memory()
    late = world.builder("late", progress=progress)
    assert late.warm(image) is None
    world.builder("early").build(image)
    late.build(image)
    assert progress.ended == ["reused", "reused"]


def test_two_processes_that_share_an_engine_and_a_cache_build_each_key_once(world: World) -> None:
    world.shell.pause = 0.01
    image = plan(BASE.run_commands("a").pip_install("six").run_commands("b"))
    builders = [world.builder("left"), world.builder("right")]
    start = threading.Barrier(2)

    def build(number: int) -> str:
        start.wait()
        return builders[number].build(image).labels.key

    with ThreadPoolExecutor(2) as pool:
        keys = set(pool.map(build, range(2)))
    assert len(keys) == 1
    assert Counter(world.made()) == Counter([ROOT, step("a"), 'pip_install("six")', step("b")])
    assert sum(builder.tally.built for builder in builders) == 4
    assert sum(builder.tally.reused for builder in builders) == 4


def test_one_image_that_fails_does_not_keep_the_others_from_being_built(world: World) -> None:
    world.shell.failing["broken"] = CommandResult(exit_code=1)
    bad, good = world.builder("first").build_all([plan(BASE.run_commands("broken")), plan(BASE.run_commands("fine"))])
    assert isinstance(bad.exception(), StepError)
    assert good.result().labels.step == step("fine")


# force and ignore ---------------------------------------------------------------------------------------------------

OWN = BASE.run_commands("own").run_commands("top")
OTHER = BASE.run_commands("other")
STICKY = BASE.run_commands("own", force_build=True).run_commands("top")
STICKY_BASE = Image.from_registry("debian:trixie", force_build=True).run_commands("own").run_commands("top")
ALL = [ROOT, step("own"), step("top")]
ABOVE = [step("own"), step("top")]


@pytest.mark.parametrize(
    ("image", "force", "ignore", "in_the_run", "in_the_next_plain_run", "of_an_image_on_the_same_base"),
    [
        pytest.param(OWN, False, False, [], [], [], id="a plain run"),
        pytest.param(OWN, True, False, ALL, [], [step("other")], id="a forced run"),
        pytest.param(OWN, False, True, ALL, [], [], id="a run that ignores the cache"),
        pytest.param(OWN, True, True, ALL, [], [], id="a forced run that ignores the cache"),
        pytest.param(STICKY, False, False, ABOVE, ABOVE, [], id="a forced step"),
        pytest.param(STICKY, False, True, ALL, ABOVE, [], id="a forced step in a run that ignores the cache"),
        pytest.param(STICKY_BASE, False, False, ALL, ALL, [step("other")], id="a forced base"),
    ],
)
def test_what_is_rebuilt_by(
    world: World,
    image: Image,
    force: bool,
    ignore: bool,
    in_the_run: list[str],
    in_the_next_plain_run: list[str],
    of_an_image_on_the_same_base: list[str],
) -> None:
    world.builder("before").build_all([plan(OWN), plan(OTHER)])

    def rebuilt(run: str, image: Image, *, force: bool = False, ignore: bool = False) -> list[str]:
        done = len(world.engine.calls)
        [future] = world.builder(run, force=force, ignore_cache=ignore).build_all([plan(image)])
        future.result()
        return world.made(since=done)

    assert rebuilt("told", image, force=force, ignore=ignore) == in_the_run
    world.engine.drop("told")
    assert rebuilt("next", image) == in_the_next_plain_run
    assert rebuilt("other", OTHER) == of_an_image_on_the_same_base
    assert rebuilt("again", OTHER) == []


def test_a_run_that_ignores_the_cache_leaves_no_layer_after_its_namespace_is_dropped(world: World) -> None:
    builder = world.builder("told", ignore_cache=True)
    builder.build(plan(OWN))
    assert world.engine.layers() == {}
    assert len(world.engine.layers("told")) == 3
    world.engine.drop("told")
    assert world.engine.layers("told") == {}


def test_a_run_that_ignores_the_cache_still_uses_the_pins_of_the_lockfile(world: World) -> None:
    image = plan(BASE.pip_install("six"))
    world.builder("before").build(image)
    world.shell.versions["six"] = "2.0"
    world.builder("told", ignore_cache=True).build(image)
    assert world.lockfile().layers[0].packages == (Pin(name="six", version="1.0"),)


@pytest.mark.parametrize("image", [OWN, STICKY_BASE])
def test_force_rebuilds_a_layer_once_per_run_in_all_its_processes(world: World, image: Image) -> None:
    world.builder("before").build(plan(image))
    done = len(world.engine.calls)
    first, second = world.builder("told", force=True), world.builder("told", force=True)
    assert second.warm(plan(image)) is None  # it has looked at the engine before the first rebuilds
    top = first.build(plan(image))
    assert first.build(plan(image)) == top
    assert second.build(plan(image)) == top
    assert [future.result() for future in second.build_all([plan(image)])] == [top]
    assert world.made(since=done) == ALL


def test_a_rebuilt_layer_keeps_its_key_and_gets_a_generation_that_changes_the_keys_above(world: World) -> None:
    image = plan(OWN)
    world.builder("before").build(image)
    world.builder("told", force=True).build(image)
    before, after = world.labels()[:3], world.labels()[3:]
    assert before[0].key == after[0].key
    assert [labels.generation for labels in before] == ["", "", ""]
    assert after[0].generation
    assert [labels.generation for labels in after[1:]] == ["", ""]
    assert {labels.key for labels in before[1:]}.isdisjoint(labels.key for labels in after[1:])
    world.builder("again", force=True).build(image)
    assert world.labels()[6].generation not in {"", after[0].generation}


# failures -----------------------------------------------------------------------------------------------------------


def test_a_failing_step_leaves_no_layer_and_what_is_above_it_is_not_attempted(world: World) -> None:
    world.shell.failing["broken"] = CommandResult(exit_code=7)
    image = plan(BASE.run_commands("a").run_commands("broken").run_commands("c"))
    for run in ("first", "second"):
        progress = Memory()
        with pytest.raises(StepError):
            world.builder(run, progress=progress).build(image)
        assert progress.ended[-1] == "failed"
    assert sorted(layer.labels.step for layer in world.engine.layers().values()) == [ROOT, step("a")]
    assert world.made() == [ROOT, step("a"), step("broken"), step("broken")]


def test_a_step_error_carries_the_command_its_exit_code_the_end_of_its_output_and_the_users_line(world: World) -> None:
    printed = "".join(f"line {n}\n" for n in range(100)).encode()
    world.shell.failing["make all"] = CommandResult(exit_code=7, stdout=printed)
    image = BASE.run_commands("true", "make all", "never")
    with pytest.raises(StepError) as caught:
        world.builder("first").build(plan(image))
    error = caught.value
    assert (error.step, error.command, error.exit_code) == (
        'run_commands("true", "make all", "never")',
        "make all",
        7,
    )
    assert error.output.splitlines() == [f"line {n}" for n in range(60, 100)]
    assert error.where == image.steps[-1].where
    head, *rest = str(error).splitlines()
    assert head == f'{__file__}:{image.steps[-1].where.line}: run_commands("true", "make all", "never") failed'  # type: ignore[union-attr]
    assert rest[:3] == ["  command: make all", "  exit code: 7", "  end of its output:"]


def test_an_installer_that_cannot_resolve_is_a_step_error_and_leaves_no_record(world: World) -> None:
    world.shell.failing["--dry-run"] = CommandResult(exit_code=1, stderr=b"ERROR: No matching distribution for nope\n")
    with pytest.raises(StepError) as caught:
        world.builder("first").build(plan(BASE.pip_install("nope")))
    assert caught.value.command == "python -m pip install nope"
    assert caught.value.output == "ERROR: No matching distribution for nope"
    assert world.lockfile().layers == ()


def test_a_step_error_does_not_show_the_password_of_an_index(world: World) -> None:
    world.shell.failing["--dry-run"] = CommandResult(exit_code=1)
    image = BASE.pip_install("six", index_url="https://me:s3cret@host.example/simple")
    with pytest.raises(StepError) as caught:
        world.builder("first").build(plan(image))
    assert caught.value.command == "python -m pip install six --index-url https://host.example/simple"
    assert "s3cret" not in str(caught.value)


def test_a_locked_version_that_is_gone_gives_the_advice_to_update_the_lock(world: World) -> None:
    world.shell.failing["exit 91"] = CommandResult(exit_code=91)
    with pytest.raises(StepError, match=r"no longer in the package index\. Update the lock: --image-lock-upgrade"):
        world.builder("first").build(plan(BASE.apt_install("git")))


def test_a_base_that_cannot_be_had_leaves_no_record(world: World) -> None:
    world.engine.fail["pin_base"] = BaseImageError("no such image")
    with pytest.raises(BaseImageError, match="no such image"):
        world.builder("first").build(plan(OWN))
    assert world.lockfile().bases == ()


def test_a_reason_is_told_for_the_lowest_missing_layer_only(world: World) -> None:
    progress = Memory()
    builder = world.builder("first", progress=progress)
    builder.build(plan(BASE.run_commands("a").run_commands("b")))
    builder.build(plan(BASE.run_commands("a").run_commands("c")))
    assert progress.reasons == [
        (ROOT, "the lockfile has no record for it that may be used"),
        (step("c"), f"the step changed: it was {step('b')}"),
    ]


def test_a_forced_layer_has_force_for_its_reason(world: World) -> None:
    world.builder("before").build(plan(OWN))
    progress = Memory()
    world.builder("told", force=True, progress=progress).build(plan(OWN))
    assert progress.reasons == [(ROOT, "it is built anew by force")]


# the lockfile -------------------------------------------------------------------------------------------------------


def test_a_build_records_the_base_and_every_install(world: World) -> None:
    world.offer_uv()
    world.builder("first").build(plan(BASE.apt_install("git").pip_install("six").uv_pip_install("attrs")))
    lockfile = world.lockfile()
    assert [(record.reference, record.platform, record.source) for record in lockfile.bases] == [
        ("debian:trixie", "linux/amd64", "registry")
    ]
    assert [(record.tool, record.base, record.request, record.packages) for record in lockfile.layers] == [
        (
            "apt",
            "debian:trixie",
            ("git",),
            (Pin(name="git", version="1.0", architecture="amd64", hashes=("sha256:aa",)),),
        ),
        ("pip", "debian:trixie", ("six",), (Pin(name="six", version="1.0"),)),
        ("uv", "debian:trixie", ("attrs",), (Pin(name="attrs", version="1.0", hashes=("sha256:bb",)),)),
    ]


def test_another_machine_with_the_lockfile_resolves_nothing_and_gets_the_same_keys(tmp_path: Path) -> None:
    image = plan(BASE.apt_install("git").pip_install("six"))
    here, there = World(tmp_path / "here"), World(tmp_path / "there")
    for world in (here, there):
        world.folder.mkdir()
    top = here.builder("first").build(image)
    (there.folder / "imagebuild.lock").write_bytes((here.folder / "imagebuild.lock").read_bytes())
    there.shell.versions |= {"git": "9", "six": "9"}
    assert there.builder("first", locked=True).build(image).labels.key == top.labels.key
    assert there.shell.resolutions == []
    assert "pin_base" not in {call.name for call in there.engine.calls}


@pytest.mark.parametrize(
    ("image", "missing"), [(BASE, ROOT), (BASE.pip_install("six"), 'pip_install("six")')], ids=["base", "install"]
)
def test_locked_names_the_missing_record_its_line_and_what_to_do(world: World, image: Image, missing: str) -> None:
    if missing != ROOT:
        world.builder("before").build(plan(BASE))
    before = world.lockfile()
    with pytest.raises(LockfileError) as caught:
        world.builder("first", locked=True).build(plan(image))
    assert str(caught.value) == (
        f"imagebuild.lock has no record for {missing} at {image.steps[-1].where} on linux/amd64, and --image-locked "
        "forbids to resolve it. Run once without --image-locked (or run `imagebuild lock`) and commit the lockfile."
    )
    assert world.lockfile() == before


def test_a_locked_run_does_not_need_pins_for_steps_that_leave_nothing_open(world: World) -> None:
    world.builder("before").build(plan(BASE))
    world.builder("first", locked=True).build(plan(BASE.run_commands("a").env({"A": "1"})))
    assert world.made() == [ROOT, step("a"), 'env({"A": "1"})']


SIX_AND_ATTRS = BASE.pip_install("six", "attrs")


@pytest.mark.parametrize(
    ("upgrade", "versions", "constraints"),
    [
        pytest.param(None, {"attrs": "1.0", "six": "1.0"}, [], id="no upgrade"),
        pytest.param([], {"attrs": "2.0", "six": "2.0"}, [""], id="everything"),
        pytest.param(["six"], {"attrs": "1.0", "six": "2.0"}, ["attrs==1.0\n"], id="by name"),
        pytest.param(["SIX"], {"attrs": "1.0", "six": "2.0"}, ["attrs==1.0\n"], id="by another spelling of its name"),
    ],
)
def test_an_upgrade_resolves_what_it_names_and_keeps_the_rest(
    world: World, upgrade: list[str] | None, versions: dict[str, str], constraints: list[str]
) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    world.shell.versions |= {"six": "2.0", "attrs": "2.0"}
    world.shell.resolutions.clear()
    builder = world.builder("told", upgrade=upgrade)
    builder.build(plan(SIX_AND_ATTRS))
    builder.build(plan(SIX_AND_ATTRS))
    assert [given for _, given in world.shell.resolutions] == constraints
    assert {pin.name: pin.version for pin in world.lockfile().layers[0].packages} == versions


def test_an_upgrade_resolves_once_per_run_in_all_its_processes(world: World) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    world.shell.versions |= {"six": "2.0", "attrs": "2.0"}
    first, second = world.builder("told", upgrade=[]), world.builder("told", upgrade=[])
    world.shell.resolutions.clear()
    first.build(plan(SIX_AND_ATTRS))
    world.shell.versions |= {"six": "3.0"}
    second.build(plan(SIX_AND_ATTRS))
    assert len(world.shell.resolutions) == 1
    assert {pin.version for pin in world.lockfile().layers[0].packages} == {"2.0"}
    world.builder("told again", upgrade=[]).build(plan(SIX_AND_ATTRS))
    assert len(world.shell.resolutions) == 2


def test_an_upgrade_of_what_the_lockfile_does_not_pin_is_refused_and_changes_nothing(world: World) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    before = world.lockfile()
    with pytest.raises(LockfileError) as caught:
        world.builder("told", upgrade=["numpy", "six"])
    assert str(caught.value) == (
        "imagebuild.lock pins no package or base image named numpy, so it cannot be upgraded. Name one that it pins, "
        "or use --image-lock-upgrade alone for all."
    )
    assert world.lockfile() == before


def test_a_layer_that_two_images_share_and_that_fails_is_tried_once(world: World) -> None:
    world.shell.failing["false"] = CommandResult(exit_code=1)
    shared = BASE.run_commands("false")
    builder = world.builder("run")
    futures = builder.build_all([plan(shared.env({"A": "1"})), plan(shared.env({"A": "2"}))])
    assert [type(future.exception()) for future in futures] == [StepError, StepError]
    assert [call.name for call in world.engine.calls].count("build") == 1


def test_an_upgrade_by_the_reference_of_a_base_asks_for_the_base_alone(world: World) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    done = len(world.engine.calls)
    world.builder("told", upgrade=["debian:trixie"]).build(plan(SIX_AND_ATTRS))
    assert "pin_base" in {call.name for call in world.engine.calls[done:]}
    assert len(world.shell.resolutions) == 1


def test_an_upgrade_that_finds_nothing_new_builds_nothing(world: World) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    done = len(world.engine.calls)
    world.builder("told", upgrade=[]).build(plan(SIX_AND_ATTRS))
    assert world.made(since=done) == []


def test_a_package_more_keeps_the_versions_of_the_others(world: World) -> None:
    world.builder("before").build(plan(BASE.pip_install("six")))
    world.shell.versions |= {"six": "2.0", "attrs": "2.0"}
    world.builder("next").build(plan(SIX_AND_ATTRS))
    assert world.shell.resolutions[-1] == (("attrs", "six"), "six==1.0\n")
    record = next(record for record in world.lockfile().layers if len(record.request) == 2)
    assert {pin.name: pin.version for pin in record.packages} == {"six": "1.0", "attrs": "2.0"}


def test_versions_that_cannot_be_kept_are_resolved_anew(world: World) -> None:
    world.builder("before").build(plan(BASE.pip_install("six")))
    world.shell.versions |= {"six": "2.0"}
    world.shell.failing["six==1.0"] = CommandResult(exit_code=1)
    world.builder("next").build(plan(SIX_AND_ATTRS))
    assert [constraints for _, constraints in world.shell.resolutions] == ["", "six==1.0\n", ""]
    record = next(record for record in world.lockfile().layers if len(record.request) == 2)
    assert {pin.name: pin.version for pin in record.packages} == {"six": "2.0", "attrs": "1.0"}


@pytest.mark.parametrize(
    ("request_", "kept"),
    [("six<2", "attrs==1.0\nsix==1.0\n"), ("six>=2", "attrs==1.0\n"), ("six @ https://host/six.whl", "attrs==1.0\n")],
)
def test_a_pin_is_kept_unless_what_is_asked_for_excludes_it(world: World, request_: str, kept: str) -> None:
    world.builder("before").build(plan(SIX_AND_ATTRS))
    world.shell.resolutions.clear()
    world.builder("edited").build(plan(BASE.pip_install(request_, "attrs")))
    assert "".join(sorted(world.shell.resolutions[0][1].splitlines(keepends=True))) == kept


def test_what_a_run_resolves_for_one_image_does_not_sway_its_others(world: World) -> None:
    images = [SIX_AND_ATTRS, BASE.pip_install("six"), BASE.pip_install("attrs>=1")]
    world.builder("one").build_all([plan(image) for image in images])
    assert [constraints for _, constraints in world.shell.resolutions] == ["", "", ""]


def test_locking_resolves_everything_and_builds_only_what_that_needs(world: World) -> None:
    image = BASE.run_commands("below").pip_install("six").run_commands("between").pip_install("attrs").run_commands("x")
    builder = world.builder("lock")
    builder.lock(plan(image))
    assert world.made() == [BASE.steps[0].describe(), 'run_commands("below")', 'pip_install("six")', BETWEEN]
    assert len(world.lockfile().layers) == 2
    calls = len(world.engine.calls)
    world.builder("again").lock(plan(image))
    assert [call.name for call in world.engine.calls[calls:] if call.name in {"build", "run", "pin_base"}] == []


def test_an_edited_requirements_file_is_resolved_again(world: World) -> None:
    world.offer_uv()
    wanted = world.folder / "requirements.txt"
    image = BASE.uv_pip_install(requirements=[str(wanted)])
    wanted.write_text("six\n")
    world.builder("first").build(plan(image))
    wanted.write_text("attrs\n")
    world.builder("second").build(plan(image))
    assert len(world.shell.resolutions) == 2
    wanted.write_text("numpy\n")
    with pytest.raises(LockfileError, match="has no record for uv_pip_install"):
        world.builder("third", locked=True).build(plan(image))


def test_requirements_files_of_one_name_in_two_folders_have_records_of_their_own(world: World) -> None:
    world.offer_uv()
    for folder, text in (("a", "six\n"), ("b", "attrs\n"), ("c", "six\n")):
        (world.folder / folder).mkdir()
        (world.folder / folder / "requirements.txt").write_text(text)
    one, two, like_one = (
        plan(BASE.uv_pip_install(requirements=[str(world.folder / folder / "requirements.txt")])) for folder in "abc"
    )
    keys = [future.result().labels.key for future in world.builder("first").build_all([one, two, like_one])]
    assert keys[0] == keys[2] != keys[1]
    assert len(world.lockfile().layers) == 2


def test_pruning_drops_what_this_run_did_not_use_and_keeps_other_platforms(world: World) -> None:
    builder = world.builder("first")
    builder.build(plan(BASE.pip_install("six")))
    elsewhere = world.lockfile().layers[0].to_dict() | {"platform": "linux/arm64"}
    record = type(world.lockfile().layers[0]).from_dict(elsewhere, "")
    builder.pins.store.change(lambda lockfile: lockfile.with_layer(record))
    second = world.builder("second")
    second.build(plan(BASE.pip_install("attrs")))
    assert len(world.lockfile().layers) == 3
    second.pins.prune()
    assert sorted((item.request, item.platform) for item in world.lockfile().layers) == [
        (("attrs",), "linux/amd64"),
        (("six",), "linux/arm64"),
    ]


def test_a_definition_that_is_wrong_is_found_before_the_engine_is_asked() -> None:
    image = BASE.add_local_file("nowhere.txt", "/x").run_commands("a")
    with pytest.raises(DefinitionError, match="tried to run a build step after"):
        plan(image)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda file: file.write_text("two"),
            "was modified during the build, which reads it once to find its layer. Run",
        ),
        (lambda file: file.unlink(), "cannot be read any more: No such file or directory."),
    ],
)
def test_a_local_file_that_changes_during_a_build_makes_no_layer(
    world: World, tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    file = tmp_path / "file.txt"
    file.write_text("one")
    planned = plan(BASE.add_local_file(file, "/file", copy=True))
    change(file)
    with pytest.raises(LocalFileError, match=re.escape(f"{__file__}:") + rf"\d+: {re.escape(f'{file} {sentence}')}"):
        world.builder("first").build(planned)
    assert world.made() == [ROOT]

"""Volumes: what one is, where it may be mounted, and what of it enters a key."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from doubles import BASE, BUILDER, World, plan

from pytest_imagebuild import DefinitionError, Image, Volume
from pytest_imagebuild.engines.memory import MemoryEngine
from pytest_imagebuild.engines.protocol import SessionSpec
from pytest_imagebuild.engines.volumes import StoredVolume, VolumeMount
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import EngineError
from pytest_imagebuild.image.volume import mounted_at

MODELS = Volume.from_name("models", create_if_missing=True)
RULE = "the name of a volume has 1 to 64 characters, each a letter, a digit, '-', '_' or '.', got"


def refused(source: str, **names: object) -> str:
    """Return the sentence by which a call of a user is refused, which must name the user's line."""
    with pytest.raises(DefinitionError) as caught:
        eval(compile(source, "user.py", "eval"), {"BASE": BASE, "MODELS": MODELS, "Volume": Volume, **names})
    place, _, sentence = str(caught.value).partition(": ")
    assert place == "user.py:1"
    return sentence


def of(*volumes: object) -> Image:
    return BASE.run_commands("ls", volumes={f"/v{number}": volume for number, volume in enumerate(volumes)})  # type: ignore[misc]


def keys(image: Image) -> list[str]:
    return [layer.step for layer in plan(image).layers]


# What one is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "...", "x" * 64])
def test_a_name_has_letters_digits_and_three_signs(name: str) -> None:
    volume = Volume.from_name(name)
    assert (volume.name, volume.is_ephemeral, volume.create_if_missing) == (name, False, False)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, ".", "..", "a\n", 1, None])
def test_another_name_is_refused_at_the_users_line(name: object) -> None:
    assert refused("Volume.from_name(NAME)", NAME=name) == f"Volume.from_name: {RULE} {name!r}"


def test_what_modal_knows_of_a_volume_is_taken_and_means_nothing() -> None:
    assert Volume.from_name("a", environment_name="main", version=2) == Volume.from_name("a")
    said = refused("Volume.from_name('a', version=3)")
    assert said == "Volume.from_name: version must be 1 or 2, or left out, got 3"


def test_two_handles_of_one_name_are_equal_wherever_they_are_written() -> None:
    one, other = Volume.from_name("a"), Volume.from_name("a")
    assert one == other
    assert hash(one) == hash(other)
    assert one != Volume.from_name("b")


def test_every_ephemeral_volume_is_one_of_its_own() -> None:
    one, other = Volume.ephemeral(), Volume.ephemeral()
    assert one != other
    assert one == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))
    assert one.is_ephemeral


def test_an_ephemeral_volume_is_given_by_with_and_can_be_used_after_it() -> None:
    with Volume.ephemeral() as volume:
        inside = volume.read_only()
    assert inside == volume.read_only()
    assert len(of(volume).steps) == 2


def test_a_named_volume_is_no_context_manager() -> None:
    said = refused("MODELS.__enter__()")
    assert said == "Volume.from_name('models') is not to be used with `with`: it outlives every block"


def test_a_read_only_handle_is_another_handle_of_the_same_volume() -> None:
    volume = MODELS.read_only()
    assert (volume.name, volume.is_read_only, MODELS.is_read_only) == ("models", True, False)
    assert volume == MODELS.with_mount_options(read_only=True)
    assert volume.with_mount_options() == volume
    assert volume.with_mount_options(read_only=False) == MODELS
    assert repr(volume) == "Volume.from_name('models').read_only()"


def test_a_part_of_a_volume_cannot_be_mounted() -> None:
    said = refused("MODELS.with_mount_options(sub_path='a')")
    assert said == (
        "Volume.with_mount_options: sub_path='a' is not supported here: a volume is mounted whole. Leave it out, and "
        "use the folder below the mount path"
    )


def test_commit_and_reload_do_nothing() -> None:
    MODELS.commit()
    MODELS.reload()


def test_a_module_with_volumes_needs_the_standard_library_alone() -> None:
    source = (
        "import sys\n"
        "from pytest_imagebuild import Volume\n"
        "Volume.from_name('a').read_only(), Volume.ephemeral()\n"
        "ours = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(name for name in ours if not name.startswith('_')))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"import sys\nsys.path.insert(0, {root!r})\n{source}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['pytest_imagebuild']\n"


# Where it may be mounted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/data", "/data/", "/data/.", PurePosixPath("/data")])
def test_paths_are_made_canonical(path: Any) -> None:
    assert mounted_at({path: MODELS}) == (("/data", MODELS),)


@pytest.mark.parametrize("path", ["/root/data", "/tmp/data", "/roots", "/a/..b", "/devices", "/Ärger mit/Leerzeichen"])
def test_other_absolute_paths_are_as_good(path: str) -> None:
    assert mounted_at({path: MODELS}) == ((path, MODELS),)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_volumes_are_none(nothing: object) -> None:
    assert mounted_at(nothing) == ()


WRONG = [
    ("[MODELS]", "volumes must be a dict of mount paths and Volumes, got [Volume.from_name('models')] (list)"),
    ("'/data'", "volumes must be a dict of mount paths and Volumes, got '/data' (str)"),
    ("{1: MODELS}", "a mount path of volumes must be a string or a path, got 1 (int)"),
    ("{b'/a': MODELS}", "a mount path of volumes must be a string or a path, got b'/a' (bytes)"),
    ("{'rel': MODELS}", "the mount path 'rel' of a volume must be a canonical absolute path. Write '/rel'"),
    ("{'/a/../b': MODELS}", "the mount path '/a/../b' of a volume must be a canonical absolute path. Write '/b'"),
    ("{'//a': MODELS}", "the mount path '//a' of a volume must be a canonical absolute path. Write '/a'"),
    ("{'': MODELS}", "the mount path '' of a volume must be a canonical absolute path. Write '/'"),
    ("{'/': MODELS}", "a volume cannot be mounted at '/'. Name a folder below it, such as '/data'"),
    ("{'/root/': MODELS}", "a volume cannot be mounted at '/root'. Name a folder below it, such as '/root/data'"),
    ("{'/tmp': MODELS}", "a volume cannot be mounted at '/tmp'. Name a folder below it, such as '/tmp/data'"),
    (
        "{'/dev/shm': MODELS}",
        "a volume cannot be mounted at '/dev/shm', which is the kernel's. Name another folder, such as '/data'",
    ),
    ("{'/a': 'models'}", "it only supports volumes that are Volume, got 'models' (str) for '/a'"),
    ("{'/a': None}", "it only supports volumes that are Volume, got None (NoneType) for '/a'"),
    ("{'/a': MODELS, '/b': MODELS}", "the same Volume cannot be mounted at two paths: '/a' and '/b'"),
    ("{'/a': MODELS, '/a/': MODELS.read_only()}", "two volumes are mounted at '/a'"),
    (
        "{'/a/b': MODELS, '/a': Volume.ephemeral()}",
        "a volume cannot be mounted inside of another: '/a/b' and '/a'. Mount them side by side",
    ),
]


@pytest.mark.parametrize(("volumes", "sentence"), WRONG, ids=[volumes for volumes, _ in WRONG])
def test_what_cannot_be_mounted_is_refused_at_the_call(volumes: str, sentence: str) -> None:
    assert refused(f"BASE.run_commands('ls', volumes={volumes})") == f"run_commands: {sentence}"


def test_two_handles_of_one_volume_are_refused_at_build_at_the_users_line() -> None:
    image = eval(
        compile("BASE.run_commands('ls', volumes={'/b': A, '/a': A.read_only()})", "user.py", "eval"),
        {"BASE": BASE, "A": Volume.from_name("a")},
    )
    with pytest.raises(DefinitionError) as caught:
        plan(image)
    assert str(caught.value) == (
        "user.py:1: run_commands(\"ls\"): the volume 'a' cannot be mounted at two paths: '/a' and '/b'"
    )


def test_two_ephemeral_volumes_are_two() -> None:
    assert len(plan(of(Volume.ephemeral(), Volume.ephemeral())).layers[1].volumes) == 2


# Keys ----------------------------------------------------------------------------------------------------------------


def test_path_name_and_read_only_enter_the_key() -> None:
    images = [
        BASE.run_commands("ls"),
        BASE.run_commands("ls", volumes={"/a": Volume.from_name("x")}),
        BASE.run_commands("ls", volumes={"/b": Volume.from_name("x")}),
        BASE.run_commands("ls", volumes={"/a": Volume.from_name("y")}),
        BASE.run_commands("ls", volumes={"/a": Volume.from_name("x").read_only()}),
        BASE.run_commands("ls", volumes={"/a": Volume.ephemeral()}),
    ]
    assert len({keys(image)[1] for image in images}) == len(images)
    assert len({image.definition for image in images}) == len(images)


def test_how_a_volume_is_written_enters_no_key() -> None:
    images = [
        BASE.run_commands("ls", volumes={"/a": Volume.from_name("x"), "/b": Volume.from_name("y")}),
        BASE.run_commands("ls", volumes={"/b/": Volume.from_name("y"), "/a": Volume.from_name("x", version=2)}),
        BASE.run_commands(
            "ls", volumes={"/a": Volume.from_name("x", create_if_missing=True), "/b": Volume.from_name("y")}
        ),
    ]
    assert len({keys(image)[1] for image in images}) == 1
    assert len({image.definition for image in images}) == 1


def test_an_ephemeral_volume_has_the_same_key_in_every_process() -> None:
    one, other = of(Volume.ephemeral()), of(Volume.ephemeral())
    assert (keys(one), one.definition) == (keys(other), other.definition)
    assert one != other, "each has a volume of its own"


# At build ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def works(engine: MemoryEngine) -> list[Work]:
    return [part for call in engine.calls if call.name == "build" for part in call.arguments if isinstance(part, Work)]


def test_a_step_has_its_volumes_and_those_that_may_be_are_made(world: World) -> None:
    image = of(MODELS.read_only(), Volume.ephemeral())
    number = plan(image).layers[1].volumes[1][1].number
    world.builder("run").build(plan(image))
    assert works(world.engine)[0].volumes == (
        VolumeMount(name="models", path="/v0", read_only=True),
        VolumeMount(name=str(number), path="/v1", ephemeral=True),
    )
    assert [volume.name for volume in world.engine.volumes()] == ["models"]
    assert world.engine.ephemeral == {str(number)}


def test_a_missing_volume_is_told_at_the_users_line_with_what_helps(world: World) -> None:
    image = eval(
        compile("BASE.run_commands('ls', volumes={'/v': Volume.from_name('a')})", "user.py", "eval"),
        {"BASE": BASE, "Volume": Volume},
    )
    with pytest.raises(DefinitionError) as caught:
        world.builder("run").build(plan(image))
    assert str(caught.value) == (
        "user.py:1: the volume 'a' for /v does not exist on the memory engine. Make it with `imagebuild volume create "
        "a`, or write Volume.from_name('a', create_if_missing=True)."
    )
    assert works(world.engine) == []
    world.engine.make_volume("a")
    world.builder("run").build(plan(image))
    assert len(works(world.engine)) == 1


def test_a_built_layer_asks_for_no_volume(world: World) -> None:
    image = of(MODELS)
    world.builder("one").build(plan(image))
    world.engine.remove_volume("models")
    before = len(world.engine.calls)
    world.builder("two").build(plan(image))
    assert not any("volume" in call.name for call in world.engine.calls[before:])


# The memory engine ---------------------------------------------------------------------------------------------------


def test_the_memory_engine_keeps_named_volumes() -> None:
    engine = MemoryEngine()
    engine.make_volume("b")
    engine.make_volume("a")
    engine.mounted.add("b")
    assert [(found.name, found.in_use) for found in engine.volumes()] == [("a", False), ("b", True)]
    assert (engine.remove_volume("a"), engine.remove_volume("b"), engine.remove_volume("c")) == (0, None, 0)
    assert [type(found) for found in engine.volumes()] == [StoredVolume]


@pytest.mark.parametrize("ephemeral", [True, False])
def test_the_memory_engine_mounts_no_volume_that_is_not_there(ephemeral: bool) -> None:
    engine = MemoryEngine()
    mount = VolumeMount(name="a", path="/a", ephemeral=ephemeral)
    layer = engine.import_base("x", engine.pin_base("x", print), _labels(), print)
    with pytest.raises(EngineError, match="volume"):
        engine.build(layer, Work(commands=("true",), volumes=(mount,)), _labels(), print)
    engine.make_volume("a", ephemeral=ephemeral)
    engine.build(layer, Work(commands=("true",), volumes=(mount,)), _labels(), print)
    engine.close()
    with pytest.raises(EngineError, match="volume" if ephemeral else "runs no containers"):
        engine.start(layer, SessionSpec(command=(), volumes=(mount,)))


def _labels() -> Any:
    from pytest_imagebuild.engines.layers import LayerLabels

    return LayerLabels(key="k", parent="", generation="", run="r")


def test_the_builder_version_is_not_asked() -> None:
    assert of(MODELS).steps[1].lines(BUILDER, "3.13") == ("FROM base", "RUN ls")

"""`Image.run_function`: what it takes, what it refuses, and what the engine is told to do for it."""

from __future__ import annotations

import enum
import functools
import io
import json
import os
import tarfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from doubles import BASE, BUILDER, NO_NETWORK, World, plan

from pytest_imagebuild import DefinitionError, Image, PythonMissingError, StepError
from pytest_imagebuild.build.functions import COMMAND, HOME, function_tools
from pytest_imagebuild.build.work import commands_for_people, layer_work
from pytest_imagebuild.engines.memory import CommandResult
from pytest_imagebuild.engines.work import CommandFailed, Work
from pytest_imagebuild.image.imports import IMAGE_VARIABLE
from pytest_imagebuild.image.values import NoFormError, form_of
from pytest_imagebuild.plan.plan import PlannedLayer

HERE = Path(__file__)


def prepare(*args: object, **kwargs: object) -> None:
    """Do nothing: no container runs here."""


async def prepare_later() -> None:
    """Do nothing, later."""


@functools.lru_cache
def prepare_once() -> None:
    """Do nothing, once."""


class Callable:
    def __call__(self) -> None:
        """Be called."""

    def method(self) -> None:
        """Be called."""

    @staticmethod
    def static() -> None:
        """Be called."""


def nested() -> object:
    def inner() -> None:
        """Be nested."""

    return inner


# what it takes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [prepare, prepare_later, prepare_once, Callable.static])
def test_it_takes_functions_that_can_be_imported(function: object) -> None:
    image = BASE.run_function(function)  # type: ignore[arg-type]
    assert plan(image).layers[-1].function is not None


def test_it_is_one_layer_without_dockerfile_lines() -> None:
    step = BASE.run_function(prepare).steps[-1]
    assert step.lines(BUILDER, "3.13") == ("FROM base",)
    assert step.describe() == "run_function(prepare)"


def test_images_are_equal_that_call_one_function_with_equal_arguments() -> None:
    first = BASE.run_function(prepare, args=(1, {"a", "b"}), kwargs={"x": 1, "y": 2})
    second = BASE.run_function(prepare, args=[1, {"b", "a"}], kwargs={"y": 2, "x": 1})
    assert (first, first.definition, hash(first)) == (second, second.definition, hash(second))
    others = [BASE.run_function(prepare), BASE.run_function(prepare, args=(2,)), BASE.run_function(prepare_later)]
    assert len({first, *others}) == 4


def test_images_with_other_limits_are_others_in_one_run_with_one_definition() -> None:
    first, second = BASE.run_function(prepare, timeout=1), BASE.run_function(prepare, timeout=2)
    assert first != second
    assert first.definition == second.definition


def test_arguments_are_taken_as_they_are_at_the_call() -> None:
    names = ["a"]
    image = BASE.run_function(prepare, args=(names,))
    names.append("b")
    assert image == BASE.run_function(prepare, args=(["a"],))


def test_cloud_and_region_mean_nothing_here() -> None:
    assert BASE.run_function(prepare, cloud="aws", region=["eu", "us"]) == BASE.run_function(prepare)


def test_force_build_and_env_are_those_of_every_step() -> None:
    step = BASE.run_function(prepare, force_build=True, env={"B": "2", "A": "1", "C": None}).steps[-1]
    assert (step.force, step.build_env) == (True, (("A", "1"), ("B", "2")))


# what it refuses ----------------------------------------------------------------------------------------------------

NOT_FUNCTIONS = {
    "a list": ([prepare], "it takes a function, not a list"),
    "an int": (3, "it takes a function, not an int"),
    "a lambda": (
        lambda: None,
        "it does not take lambda functions. Give the function a name with def, at the top level",
    ),
    "a nested function": (
        nested(),
        (
            "it does not take nested functions, and nested.inner is one. In the container it is imported by its name: "
            "define it at the top level of a module"
        ),
    ),
    "a partial": (
        functools.partial(prepare, 1),
        "it takes a function, not a functools.partial. Pass the function itself, with args= and kwargs=",
    ),
    "a callable instance": (
        Callable(),
        (
            "it takes a function, not an instance of Callable. "
            "Write a function at the top level of the module that calls it"
        ),
    ),
    "a bound method": (
        Callable().method,
        (
            "it takes a function, not the bound method Callable.method. "
            "Write a function at the top level of the module that calls it"
        ),
    ),
    "a class": (Callable, "it takes a function, not the class Callable"),
    "a built-in function": (
        os.getcwd,
        "it takes a function of a Python file, and getcwd is built in. Call it in one of yours",
    ),
}


@pytest.mark.parametrize(("value", "sentence"), NOT_FUNCTIONS.values(), ids=NOT_FUNCTIONS)
def test_what_is_no_function_is_refused_at_the_line_of_the_call(value: object, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        BASE.run_function(value)  # type: ignore[arg-type]
    where = caught.value.where
    assert where is not None
    assert where.file == __file__
    assert str(caught.value) == f"{where}: run_function: {sentence}"


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "network_file_systems": (
        {"network_file_systems": {"/n": object()}},
        "network_file_systems= is not supported: network file systems are on Modal's servers only. Use volumes=",
    ),
    "args that are a text": ({"args": "abc"}, "args must be a tuple of arguments, got 'abc' (str)"),
    "args that are a number": ({"args": 1}, "args must be a tuple of arguments, got 1 (int)"),
    "kwargs without names": ({"kwargs": {1: 2}}, "kwargs must be a dict of arguments by their names, got {1: 2}"),
    "large arguments": (
        {"args": (b"x" * (2 * 1024 * 1024),)},
        (
            "its arguments take 2097176 bytes when they are serialized, more than 2 MiB. "
            "Put large values into a file and add it with add_local_file(..., copy=True)"
        ),
    ),
    "arguments that cannot travel": (
        {"args": (threading.Lock(),)},
        "its arguments cannot be serialized: cannot pickle '_thread.lock' object",
    ),
    "timeout": ({"timeout": 0}, "timeout takes a number of seconds above 0, found 0"),
    "cpu": ({"cpu": 0}, "cpu takes a number of cores of 0.01 or more, found 0"),
    "memory": ({"memory": 1}, "memory takes 6 MiB or more, found 1"),
    "env": (
        {"env": {"A": 1}},
        "the env argument has to be a dict[str, Union[str, None]], value for key 'A' has type int",
    ),
}


@pytest.mark.parametrize(("keywords", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_argument_is_refused_at_the_line_of_the_call(keywords: dict[str, object], sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        BASE.run_function(prepare, **keywords)  # type: ignore[arg-type]
    assert str(caught.value) == f"{caught.value.where}: run_function: {sentence}"


def test_it_may_not_follow_lazy_local_files() -> None:
    image = BASE.add_local_file("a", "/a").run_function(prepare)
    with pytest.raises(DefinitionError, match=r"run_function\(prepare\) comes after add_local_file"):
        plan(image)


# values -------------------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Size:
    width: int
    names: tuple[str, ...] = ()


ALIKE = {
    "sets in another order": ({"a", "b", "c"}, {"c", "b", "a"}),
    "equal strings that are two objects": (("ab", "ab"), ("ab", chr(97) + "b")),
    "equal instances": (Size(1, ("a",)), Size(1, ("a",))),
    "equal paths": (PurePosixPath("/a/b"), PurePosixPath("/a") / "b"),
    "equal ordered dicts": (OrderedDict(a=1), OrderedDict([("a", 1)])),
}
DIFFERENT = {
    "numbers and texts": (1, "1"),
    "numbers and truth": (1, True),
    "lists and tuples": ([1], (1,)),
    "whole and broken numbers": (1, 1.0),
    "dicts in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "members": (Color.RED, Color.BLUE),
    "instances": (Size(1), Size(2)),
    "bytes": (b"a", bytearray(b"a")),
    "classes": (Size, Color),
    "functions": (prepare, prepare_later),
    "modules": (os, io),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_equal_values_have_one_form(one: object, other: object) -> None:
    assert form_of(one) == form_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_values_have_different_forms(one: object, other: object) -> None:
    assert json.dumps(form_of(one)) != json.dumps(form_of(other))


def test_a_value_that_holds_itself_has_a_form() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    assert form_of(loop) == ("list", 1, ("again", 0))


def test_what_cannot_be_rebuilt_has_none() -> None:
    with pytest.raises(NoFormError, match=r"^a lock cannot be written: cannot pickle '_thread\.lock' object$"):
        form_of([threading.Lock()])
    with pytest.raises(NoFormError, match=r"is not at the top level of a module$"):
        form_of(nested())


# what the engine is told --------------------------------------------------------------------------------------------


def layer(image: Image) -> PlannedLayer:
    return plan(image).layers[-1]


def function_work(image: Image) -> Work:
    top = layer(image)
    assert top.function is not None
    return layer_work(top, (), NO_NETWORK, function_tools(top.function))


def contents(work: Work) -> dict[str, bytes]:
    return {tool.path: tool.data or b"" for tool in work.tools}


def test_the_limits_are_those_of_the_work() -> None:
    work = function_work(BASE.run_function(prepare, cpu=1.5, memory=512, timeout=7))
    assert (work.cpu, work.memory, work.timeout) == (1.5, 512 * 1024 * 1024, 7.0)
    assert function_work(BASE.run_function(prepare)).timeout == 3600


def test_other_steps_have_no_limits() -> None:
    work = layer_work(layer(BASE.run_commands("a")), (), NO_NETWORK, ())
    assert (work.cpu, work.memory, work.timeout) == (None, None, None)


def test_its_source_is_lent_and_no_file_enters_the_layer() -> None:
    work = function_work(BASE.run_function(prepare, args=(1,)))
    assert (work.commands, work.files) == ((COMMAND,), ())
    tools = contents(work)
    assert sorted(tools) == [
        f"{HOME}/{name}" for name in ("call.json", "payload", "run.py", "runtime.zip", "sources.tar")
    ]
    with tarfile.open(fileobj=io.BytesIO(tools[f"{HOME}/sources.tar"])) as archive:
        assert archive.getnames() == [HERE.name]
    assert json.loads(tools[f"{HOME}/call.json"]) == {
        "module": "test_run_function",
        "name": "prepare",
        "root": "/root",
        "places": {"/root/test_run_function.py": str(HERE)},
        "shipped": True,
    }


def test_without_its_source_nothing_of_it_is_lent() -> None:
    tools = contents(function_work(BASE.run_function(prepare, include_source=False)))
    with tarfile.open(fileobj=io.BytesIO(tools[f"{HOME}/sources.tar"])) as archive:
        assert archive.getnames() == []
    assert json.loads(tools[f"{HOME}/call.json"])["places"] == {}


def test_it_runs_in_a_container_of_the_image_below() -> None:
    below = BASE.run_commands("a").run_function(prepare)
    assert function_work(below.run_function(prepare_later)).environment[IMAGE_VARIABLE] == below.definition
    assert IMAGE_VARIABLE not in layer_work(layer(BASE.run_commands("a")), (), NO_NETWORK, ()).environment


def test_people_see_the_function_instead_of_our_command() -> None:
    assert commands_for_people(layer(BASE.run_function(prepare)), BUILDER, 0) == "test_run_function.py: prepare()"


# what its failures mean ---------------------------------------------------------------------------------------------


def failure(world: World, image: Image, result: CommandResult) -> BaseException | None:
    world.shell.failing[COMMAND] = result
    (future,) = world.builder("run").build_all([plan(image)])
    return future.exception()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_function_that_fails_is_a_step_that_failed(world: World) -> None:
    image = BASE.run_function(prepare)
    error = failure(world, image, CommandResult(exit_code=1, stderr=b"Traceback\nRuntimeError: no model\n"))
    assert isinstance(error, StepError)
    assert str(error) == (
        f"{image.steps[-1].where}: run_function(prepare) failed\n"
        "  command: test_run_function.py: prepare()\n"
        "  exit code: 1\n"
        "  end of its output:\n"
        "    Traceback\n"
        "    RuntimeError: no model"
    )


KILLED = {
    "time": (
        CommandResult(seconds=6),
        (
            "It was killed: it did not end within its timeout of 5 seconds. "
            "Give it longer: run_function(..., timeout=SECONDS)."
        ),
    ),
    "memory": (
        CommandResult(out_of_memory=True),
        (
            "The kernel killed it: it needs more memory than memory=512 allows. "
            "Give it more: run_function(..., memory=MIB)."
        ),
    ),
}


@pytest.mark.parametrize(("result", "sentence"), KILLED.values(), ids=KILLED)
def test_a_function_that_was_killed_is_told_why(world: World, result: CommandResult, sentence: str) -> None:
    error = failure(world, BASE.run_function(prepare, timeout=5, memory=512), result)
    assert isinstance(error, StepError)
    assert (error.exit_code, str(error).splitlines()[-1]) == (137, f"  {sentence}")


def test_an_image_without_python_is_told_as_for_tests(world: World) -> None:
    image = BASE.run_function(prepare)
    error = failure(world, image, CommandResult(exit_code=93))
    assert isinstance(error, PythonMissingError)
    assert str(error) == (
        f"{image.steps[-1].where}: Functions cannot run in this image: it has neither `python` nor `python3` on PATH. "
        'Use add_python in from_registry, install one (`.apt_install("python3")`), or start from Image.debian_slim().'
    )


def test_the_memory_engine_kills_work_at_the_end_of_its_time(world: World) -> None:
    engine = world.engine
    base = world.builder("run").build(plan(BASE))
    world.shell.failing["slow"] = CommandResult(seconds=3)
    engine.run(base, Work(commands=("slow",), timeout=3), print)
    with pytest.raises(CommandFailed) as caught:
        engine.run(base, Work(commands=("slow", "slow"), timeout=5), print)
    assert (caught.value.index, caught.value.timed_out, caught.value.exit_code) == (1, True, 137)

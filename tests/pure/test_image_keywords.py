"""The keywords that every step has: `env`, `secrets`, `gpu`, `volumes`, `force_build`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from doubles import BASE

from pytest_imagebuild import DefinitionError, Image, Secret, Volume
from pytest_imagebuild.image.gpu import GpuRequest

HUB, INDEX = Secret.from_name("hub"), Secret.from_name("index")
MODELS = Volume.from_name("models")


def download() -> None:
    """Stand for a function of the user's."""


STEPS: dict[str, Callable[..., Image]] = {
    "apt_install": lambda **more: BASE.apt_install("a", **more),
    "pip_install": lambda **more: BASE.pip_install("a", **more),
    "pip_install_from_requirements": lambda **more: BASE.pip_install_from_requirements("r.txt", **more),
    "pip_install_from_pyproject": lambda **more: BASE.pip_install_from_pyproject("pyproject.toml", **more),
    "uv_pip_install": lambda **more: BASE.uv_pip_install("a", **more),
    "uv_sync": BASE.uv_sync,
    "poetry_install_from_file": lambda **more: BASE.poetry_install_from_file("pyproject.toml", **more),
    "micromamba_install": lambda **more: BASE.micromamba_install("a", **more),
    "pip_install_private_repos": lambda **more: BASE.pip_install_private_repos(
        "github.com/a/b", git_user="me", **{"secrets": [HUB], **more}
    ),
    "run_commands": lambda **more: BASE.run_commands("a", **more),
    "run_function": lambda **more: BASE.run_function(download, **more),
    "dockerfile_commands": lambda **more: BASE.dockerfile_commands("RUN a", **more),
    "from_dockerfile": lambda **more: Image.from_dockerfile("Dockerfile", **more),
}
WITH_GPU = [name for name in STEPS if "dockerfile" not in name]
WITH_VOLUMES = ["run_commands", "run_function"]


def test_the_steps_here_are_all_that_take_secrets() -> None:
    public = {name: value for name, value in inspect.getmembers(Image, callable) if not name.startswith("_")}
    assert set(STEPS) == {name for name, value in public.items() if "secrets" in inspect.signature(value).parameters}
    assert set(WITH_VOLUMES) == {n for n, value in public.items() if "volumes" in inspect.signature(value).parameters}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_the_secrets_and_the_variables_that_it_was_given(name: str) -> None:
    step = STEPS[name](secrets=[HUB, INDEX], env={"B": "2", "A": "1", "C": None}).steps[-1]
    assert step.secrets == (HUB, INDEX)
    assert step.build_env == (("A", "1"), ("B", "2"))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_forced_when_it_is_told_so(name: str) -> None:
    assert STEPS[name](force_build=True).steps[-1].force
    assert not STEPS[name]().steps[-1].force


@pytest.mark.parametrize("name", WITH_GPU)
def test_a_step_has_the_gpu_that_it_was_given(name: str) -> None:
    assert STEPS[name](gpu="a100:2").steps[-1].gpu == (GpuRequest(type="A100", count=2),)


def test_a_function_of_the_user_may_give_secrets_to_the_steps_that_it_adds() -> None:
    def login(image: Image, secret: Secret, *, command: str) -> Image:
        return image.run_commands(command, secrets=[secret])

    assert BASE.pipe(login, HUB, command="login") == BASE.run_commands("login", secrets=[HUB])
    assert BASE.pipe(login, HUB, command="login").steps[-1].secrets == (HUB,)


def test_a_function_takes_one_gpu_of_several_the_best_first() -> None:
    image = BASE.run_function(download, gpu=["H100", "a10g:2"])
    assert image.steps[-1].gpu == (GpuRequest(type="H100"), GpuRequest(type="A10G", count=2))


@pytest.mark.parametrize("name", WITH_VOLUMES)
def test_a_step_has_the_volumes_that_it_was_given(name: str) -> None:
    assert STEPS[name](volumes={"/models/": MODELS}).steps[-1].volumes == (("/models", MODELS),)


WRONG: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "secrets": (
        list(STEPS),
        {"secrets": ["t0ken"]},
        (
            "All secrets of an Image need to be Secret instances, found str. "
            "Make one: Secret.from_dict({...}), Secret.from_name(...)"
        ),
    ),
    "env": (
        list(STEPS),
        {"env": {"A": 1}},
        "the env argument has to be a dict[str, Union[str, None]], value for key 'A' has type int",
    ),
    "gpu": (WITH_GPU, {"gpu": "H100:two"}, "Invalid GPU count: two. Value must be an integer."),
    "gpu of a Dockerfile": (
        ["dockerfile_commands", "from_dockerfile"],
        {"gpu": "H100"},
        "gpu= is not supported: no builder of Dockerfiles is given devices. Use run_commands(..., gpu=...)",
    ),
    "volumes": (
        WITH_VOLUMES,
        {"volumes": {"/a": "models"}},
        "it only supports volumes that are Volume, got 'models' (str) for '/a'",
    ),
}


@pytest.mark.parametrize(
    ("name", "keywords", "sentence"),
    [(name, keywords, sentence) for names, keywords, sentence in WRONG.values() for name in names],
    ids=[f"{name}-{kind}" for kind, (names, _, _) in WRONG.items() for name in names],
)
def test_a_wrong_keyword_is_refused_by_every_step(name: str, keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        STEPS[name](**keywords)
    assert str(caught.value) == f"{caught.value.where}: {name}: {sentence}"
    assert caught.value.where is not None
    assert caught.value.where.file == __file__

"""Wrong arguments: each is refused at the call, with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_imagebuild import DefinitionError, Image

BASE: object = Image.from_registry("debian:trixie")
FACTORY: object = Image
ENV_RULE = "the env argument has to be a dict[str, Union[str, None]]"

# The calls are wrong on purpose, so they are written where no type checker looks.
CASES: list[tuple[str, str]] = [
    # strings and lists of strings
    ("BASE.apt_install(1)", "apt_install: packages must only contain strings, got 1 (int)"),
    ("BASE.apt_install([1])", "apt_install: packages must only contain strings, got 1 (int)"),
    ("BASE.apt_install([['a']])", "apt_install: packages must only contain strings, got ['a'] (list)"),
    ("BASE.apt_install(('a',))", "apt_install: packages must only contain strings, got ('a',) (tuple)"),
    ("BASE.pip_install({'a'})", "pip_install: packages must only contain strings, got {'a'} (set)"),
    ("BASE.pip_install({})", "pip_install: packages must only contain strings, got {} (dict)"),
    ("BASE.uv_pip_install(None)", "uv_pip_install: packages must only contain strings, got None (NoneType)"),
    ("BASE.run_commands(1)", "run_commands: commands must only contain strings, got 1 (int)"),
    ("BASE.run_commands([['a']])", "run_commands: commands must only contain strings, got ['a'] (list)"),
    # options among packages
    (
        "BASE.pip_install('a', '-r x')",
        (
            "pip_install: the package list cannot contain other arguments; try the `extra_options` parameter: "
            "extra_options='-r x'"
        ),
    ),
    (
        "BASE.uv_pip_install(['--pre'])",
        (
            "uv_pip_install: the package list cannot contain other arguments; try the `extra_options` parameter: "
            "extra_options='--pre'"
        ),
    ),
    # other arguments of the installers
    ("BASE.pip_install('a', find_links=1)", "pip_install: find_links must be a string, got 1 (int)"),
    ("BASE.pip_install('a', index_url=1)", "pip_install: index_url must be a string, got 1 (int)"),
    ("BASE.pip_install('a', extra_index_url=[])", "pip_install: extra_index_url must be a string, got [] (list)"),
    ("BASE.pip_install('a', extra_options=['-q'])", "pip_install: extra_options must be a string, got ['-q'] (list)"),
    ("BASE.uv_pip_install('a', uv_version=0.9)", "uv_pip_install: uv_version must be a string, got 0.9 (float)"),
    (
        "BASE.uv_pip_install(requirements='r.txt')",
        "uv_pip_install: requirements must be None or a list of strings, got 'r.txt' (str)",
    ),
    (
        "BASE.uv_pip_install(requirements=[1])",
        "uv_pip_install: requirements must be None or a list of strings, got [1] (list)",
    ),
    # env=
    ("BASE.apt_install('a', env=['A'])", f"apt_install: {ENV_RULE}, got list"),
    ("BASE.pip_install('a', env={'A': 1})", f"pip_install: {ENV_RULE}, value for key 'A' has type int"),
    ("BASE.uv_pip_install('a', env={1: 'A'})", f"uv_pip_install: {ENV_RULE}, key 1 has type int"),
    ("BASE.run_commands('a', env='A=1')", f"run_commands: {ENV_RULE}, got str"),
    # env
    ("BASE.env({'A': 1, 'B': 'b', 'C': None})", "env: Image ENV variables must be strings. Invalid keys: ['A', 'C']"),
    ("BASE.env({1: 'a'})", "env: Image ENV variables must be strings. Invalid keys: [1]"),
    ("BASE.env('A=1')", "env: Image ENV variables must be a dict of strings, got 'A=1' (str)"),
    # paths
    ("BASE.workdir(1)", "workdir: path must be a string or a path, got 1 (int)"),
    ("BASE.workdir('')", "workdir: path must be a non-empty string or path, got '' (str)"),
    (
        "BASE.add_local_file('a', 'b/c')",
        (
            "image.add_local_file() currently only supports absolute remote_path values, got 'b/c'. "
            "Write '/root/b/c', for example."
        ),
    ),
    (
        "BASE.add_local_dir('a', 'b', copy=True)",
        (
            "image.add_local_dir() currently only supports absolute remote_path values, got 'b'. "
            "Write '/root/b', for example."
        ),
    ),
    ("BASE.add_local_file(1, '/a')", "add_local_file: local_path must be a string or a path, got 1 (int)"),
    ("BASE.add_local_dir('a', None)", "add_local_dir: remote_path must be a string or a path, got None (NoneType)"),
    # ignore=
    (
        "BASE.add_local_dir('a', '/a', ignore=1)",
        "add_local_dir: ignore must be a sequence of patterns or a callable that takes a path, got 1 (int)",
    ),
    (
        "BASE.add_local_dir('a', '/a', ignore=[1])",
        "add_local_dir: ignore must be a sequence of patterns or a callable that takes a path, got [1] (list)",
    ),
    ("BASE.add_local_dir('a', '/a', ignore=['!'])", 'add_local_dir: ignore: Illegal exclusion pattern: "!"'),
    (
        "BASE.add_local_python_source('a', ignore='[')",
        "add_local_python_source: ignore: Bad pattern: '[' has a broken set or escape",
    ),
    (
        "BASE.add_local_python_source('a', 1)",
        "add_local_python_source: Local Python modules must be specified as strings, got 1 (int).",
    ),
    # bases
    (
        "FACTORY.debian_slim(3.13)",
        'debian_slim: Python version must be specified as a string, not float. Write python_version="3.13".',
    ),
    (
        "FACTORY.debian_slim(3)",
        'debian_slim: Python version must be specified as a string, not int. Write python_version="3".',
    ),
    (
        "FACTORY.from_registry(None)",
        "from_registry: the tag must be a non-empty string without spaces, as 'debian:trixie', got None (NoneType)",
    ),
    (
        "FACTORY.from_registry('a\\nRUN b')",
        "from_registry: the tag must be a non-empty string without spaces, as 'debian:trixie', got 'a\\nRUN b' (str)",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), CASES, ids=[call for call, _ in CASES])
def test_a_wrong_argument_is_refused_at_the_call(call: str, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        eval(compile(call, "user.py", "eval"), {"BASE": BASE, "FACTORY": FACTORY, "Path": Path})
    assert str(caught.value) == f"user.py:1: {sentence}"


LATER: list[tuple[Callable[[Image], Image], str]] = [
    (lambda image: image.apt_install("a", secrets=[object()]), "apt_install: secrets="),
    (lambda image: image.apt_install("a", gpu="any"), "apt_install: gpu="),
    (lambda image: image.pip_install("a", secrets=[object()]), "pip_install: secrets="),
    (lambda image: image.pip_install("a", gpu="any"), "pip_install: gpu="),
    (lambda image: image.uv_pip_install("a", secrets=[object()]), "uv_pip_install: secrets="),
    (lambda image: image.uv_pip_install("a", gpu="any"), "uv_pip_install: gpu="),
    (lambda image: image.run_commands("a", secrets=[object()]), "run_commands: secrets="),
    (lambda image: image.run_commands("a", volumes={"/v": object()}), "run_commands: volumes="),
    (lambda image: image.run_commands("a", gpu="any"), "run_commands: gpu="),
    (lambda _: Image.from_registry("a", object()), "from_registry: secret="),
    (lambda _: Image.from_registry("a", add_python="3.13"), "from_registry: add_python="),
    (
        lambda _: Image.from_registry("a", setup_dockerfile_commands=["RUN a"]),
        "from_registry: setup_dockerfile_commands=",
    ),
]


@pytest.mark.parametrize(("call", "keyword"), LATER, ids=[keyword for _, keyword in LATER])
def test_a_keyword_that_comes_later_is_refused_and_not_ignored(call: Callable[[Image], Image], keyword: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        call(Image.debian_slim())
    sentence = "is not supported yet by this version of pytest-imagebuild; leave it out"
    assert str(caught.value).endswith(f": {keyword} {sentence}")
    assert caught.value.where is not None
    assert caught.value.where.file == __file__


def test_a_keyword_that_comes_later_may_ask_for_nothing() -> None:
    image = Image.from_registry("a", None, setup_dockerfile_commands=[], add_python=None)
    image = image.apt_install("a", secrets=[], gpu=None).run_commands("a", secrets=(), volumes={})
    assert len(image.steps) == 3


def test_what_is_checked_at_build_is_not_checked_at_the_call() -> None:
    image = Image.debian_slim("2.7").uv_pip_install(requirements=["no/such/file"])
    image = image.add_local_file("no/such/file", "/a", copy=True).add_local_dir("no/such/dir", "/b")
    image.add_local_python_source("no_such_module").env({"A": "1"})

"""Wrong arguments: each is refused at the call, with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_imagebuild import DefinitionError, Image, Secret

BASE: object = Image.from_registry("debian:trixie")
FACTORY: object = Image
SECRETS_RULE = "All secrets of an Image need to be Secret instances"
DICT_RULE = "the env_dict argument has to be a dict[str, Union[str, None]]"
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
    ("BASE.env({'A': '1', 'B=C': '2', '': '3'})", "env: a variable needs a name without '=', got ['B=C', '']"),
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
    # private repositories
    (
        "BASE.pip_install_private_repos('github.com/a/b', git_user='me')",
        (
            "pip_install_private_repos: no secrets are given, and private repositories need a token. Pass "
            "secrets=[Secret.from_name(...)] with GITHUB_TOKEN or GITLAB_TOKEN; env= would leave it in keys."
        ),
    ),
    (
        "BASE.pip_install_private_repos('bitbucket.org/a/b', 'github.com/a/b', 7, git_user='me')",
        (
            "pip_install_private_repos: 2 out of 3 given repository refs are invalid: ['bitbucket.org/a/b', 7]. Write "
            "them as 'github.com/owner/name' or 'gitlab.com/owner/name'."
        ),
    ),
    (
        "BASE.pip_install_private_repos('github.com/a/b', git_user=7)",
        "pip_install_private_repos: git_user must be a string, got 7 (int)",
    ),
    # Dockerfiles
    (
        "BASE.dockerfile_commands('RUN a', gpu='any')",
        (
            "dockerfile_commands: gpu= is not supported: no builder of Dockerfiles is given devices. Use "
            "run_commands(..., gpu=...)"
        ),
    ),
    (
        "FACTORY.from_dockerfile('Dockerfile', registry_secret='x')",
        "from_dockerfile: registry_secret must be a Secret, found str. Make one: Secret.from_dict({...})",
    ),
    (
        "BASE.pip_install_private_repos('github.com/a/b', git_user='me\\nevil')",
        "pip_install_private_repos: git_user must be a user name, as 'octocat', got 'me\\nevil' (str)",
    ),
    (
        "BASE.poetry_install_from_file('p', poetry_version='')",
        "poetry_install_from_file: poetry_version must be a version, as '1.8.5', got '' (str)",
    ),
    # what containers start with
    ("BASE.cmd('a')", "cmd: Image CMD must be a list of strings, got 'a' (str)"),
    ("BASE.cmd(('a',))", "cmd: Image CMD must be a list of strings, got ('a',) (tuple)"),
    ("BASE.entrypoint(['a', 1])", "entrypoint: entrypoint_commands must be a list of strings, got ['a', 1] (list)"),
    ("BASE.shell(None)", "shell: shell_commands must be a list of strings, got None (NoneType)"),
    # projects
    (
        "BASE.pip_install_from_requirements(1)",
        "pip_install_from_requirements: requirements_txt must be a string or a path, got 1 (int)",
    ),
    (
        "BASE.pip_install_from_pyproject('p', 'dev')",
        "pip_install_from_pyproject: optional_dependencies must be None or a list of strings, got 'dev' (str)",
    ),
    ("BASE.uv_sync(groups='dev')", "uv_sync: groups must be None or a list of strings, got 'dev' (str)"),
    ("BASE.uv_sync(extras=('x',))", "uv_sync: extras must be None or a list of strings, got ('x',) (tuple)"),
    (
        "BASE.poetry_install_from_file('p', with_='dev')",
        "poetry_install_from_file: with_ must be None or a list of strings, got 'dev' (str)",
    ),
    # bases
    (
        "FACTORY.from_id('im-123')",
        (
            "from_id: the id 'im-123' names an image on Modal's servers, and this plugin builds images on this "
            "machine. Write the image as a chain of calls, or name an image of this machine with Image.from_name()."
        ),
    ),
    (
        "FACTORY.debian_slim(3.13)",
        'debian_slim: Python version must be specified as a string, not float. Write python_version="3.13".',
    ),
    (
        "FACTORY.debian_slim(3)",
        'debian_slim: Python version must be specified as a string, not int. Write python_version="3".',
    ),
    (
        "FACTORY.from_registry('a', add_python=3.13)",
        'from_registry: Python version must be specified as a string, not float. Write add_python="3.13".',
    ),
    (
        "FACTORY.from_registry(None)",
        "from_registry: the tag must be a non-empty string without spaces, as 'debian:trixie', got None (NoneType)",
    ),
    (
        "FACTORY.from_registry('a\\nRUN b')",
        "from_registry: the tag must be a non-empty string without spaces, as 'debian:trixie', got 'a\\nRUN b' (str)",
    ),
    (
        "FACTORY.from_registry('a', setup_dockerfile_commands=1)",
        "from_registry: setup_dockerfile_commands must only contain strings, got 1 (int)",
    ),
    (
        "FACTORY.from_registry('a', setup_dockerfile_commands=['RUN a', ['RUN b']])",
        "from_registry: setup_dockerfile_commands must only contain strings, got ['RUN b'] (list)",
    ),
    (
        "FACTORY.from_registry('a', 'user:pass')",
        "from_registry: secret must be a Secret, found str. Make one: Secret.from_dict({...})",
    ),
    (
        "FACTORY.from_aws_ecr('a', {'AWS_REGION': 'x'})",
        "from_aws_ecr: secret must be a Secret, found dict. Make one: Secret.from_dict({...})",
    ),
    (
        "FACTORY.from_gcp_artifact_registry('', None)",
        (
            "from_gcp_artifact_registry: the tag must be a non-empty string without spaces, as 'debian:trixie', "
            "got '' (str)"
        ),
    ),
    # secrets=
    *(
        (f"BASE.{method}('a', secrets={given})", f"{method}: {SECRETS_RULE}{rest}")
        for method in ("apt_install", "pip_install", "uv_pip_install", "run_commands")
        for given, rest in (
            ("['t0ken']", ", found str. Make one: Secret.from_dict({...}), Secret.from_name(...)"),
            ("{'TOKEN': 't0ken'}", ", found str. Make one: Secret.from_dict({...}), Secret.from_name(...)"),
            ("'t0ken'", ", in a list: secrets takes [Secret, ...], found str"),
            ("Secret.from_dict({'A': 't0ken'})", ", in a list: secrets takes [Secret, ...], found Secret"),
        )
    ),
    (
        "Secret.from_dict(['A'])",
        f'Secret.from_dict: {DICT_RULE}, got list. Write {{"NAME": "value"}}',
    ),
    (
        "Secret.from_dict({'A': 1})",
        f"Secret.from_dict: {DICT_RULE}, value for key 'A' has type int",
    ),
    (
        "Secret.from_dict({1: 't0ken'})",
        f"Secret.from_dict: {DICT_RULE}, a key has type int",
    ),
    ("Secret.from_local_environ('A')", "Secret.from_local_environ: env_keys must be a list of strings, got str"),
    (
        "Secret.from_local_environ(['A', 1])",
        "Secret.from_local_environ: env_keys must only contain strings, got 1 (int)",
    ),
    ("Secret.from_dotenv(1)", "Secret.from_dotenv: path must be a string or a path, got 1 (int)"),
    ("Secret.from_dotenv(filename='')", "Secret.from_dotenv: filename must be a non-empty string, got ''"),
    ("Secret.from_name(1)", "Secret.from_name: name must be a string, got 1 (int)"),
    ("Secret.from_name('')", "Secret.from_name: name must not be empty"),
    ("Secret.from_name('a', environment_name=1)", "Secret.from_name: environment_name must be a string, got 1 (int)"),
    ("Secret.from_name('a', required_keys='A')", "Secret.from_name: required_keys must be a list of strings, got str"),
]


@pytest.mark.parametrize(("call", "sentence"), CASES, ids=[call for call, _ in CASES])
def test_a_wrong_argument_is_refused_at_the_call(call: str, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        eval(compile(call, "user.py", "eval"), {"BASE": BASE, "FACTORY": FACTORY, "Path": Path, "Secret": Secret})
    assert str(caught.value) == f"user.py:1: {sentence}"


@pytest.mark.parametrize("method", ["from_registry", "from_aws_ecr", "from_gcp_artifact_registry"])
def test_a_base_takes_one_secret_and_no_list_of_them(method: str) -> None:
    with pytest.raises(TypeError, match=f"{method}.. got an unexpected keyword argument 'secrets'"):
        getattr(Image, method)("a", secrets=[Secret.from_dict({"REGISTRY_USERNAME": "x"})])


def test_what_is_checked_at_build_is_not_checked_at_the_call() -> None:
    image = Image.debian_slim("2.7").uv_pip_install(requirements=["no/such/file"])
    image = image.add_local_file("no/such/file", "/a", copy=True).add_local_dir("no/such/dir", "/b")
    image.add_local_python_source("no_such_module").env({"A": "1"})

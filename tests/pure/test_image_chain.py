"""The chain as a value: what a call records, equality, identity, order, force."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

import pytest_imagebuild
from pytest_imagebuild import DefinitionError, FilePatternMatcher, Image, Secret, SourceLocation
from pytest_imagebuild.image.patterns import AUTO_DOCKERIGNORE, HIDDEN_FILES, NON_SOURCE_FILES
from pytest_imagebuild.image.sources import LocalDir, LocalFile, LocalPythonSource

BASE = Image.from_registry("debian:trixie")

SIGNATURES = {
    "debian_slim": "(python_version=None, force_build=False)",
    "from_registry": "(tag, secret=None, *, setup_dockerfile_commands=(), force_build=False, add_python=None)",
    "from_aws_ecr": "(tag, secret=None, *, setup_dockerfile_commands=(), force_build=False, add_python=None)",
    "from_gcp_artifact_registry": "(tag, secret=None, *, setup_dockerfile_commands=(), force_build=False, "
    "add_python=None)",
    "from_dockerfile": "(path, *, force_build=False, context_dir=None, ignore=AUTO_DOCKERIGNORE, build_args=None, "
    "registry_secret=None, secrets=None, env=None, gpu=None, add_python=None)",
    "from_scratch": "(force_build=False)",
    "micromamba": "(python_version=None, force_build=False)",
    "from_id": "(image_id, client=None)",
    "apt_install": "(self, *packages, force_build=False, env=None, secrets=None, gpu=None)",
    "pip_install": "(self, *packages, find_links=None, index_url=None, extra_index_url=None, pre=False, "
    "extra_options='', force_build=False, env=None, secrets=None, gpu=None)",
    "uv_pip_install": "(self, *packages, requirements=None, find_links=None, index_url=None, extra_index_url=None, "
    "pre=False, extra_options='', force_build=False, uv_version=None, env=None, secrets=None, gpu=None)",
    "pip_install_private_repos": "(self, *repositories, git_user, find_links=None, index_url=None, "
    "extra_index_url=None, pre=False, extra_options='', gpu=None, env=None, secrets=None, force_build=False)",
    "pip_install_from_requirements": "(self, requirements_txt, find_links=None, *, index_url=None, "
    "extra_index_url=None, pre=False, extra_options='', force_build=False, env=None, secrets=None, gpu=None)",
    "pip_install_from_pyproject": "(self, pyproject_toml, optional_dependencies=[], *, find_links=None, "
    "index_url=None, extra_index_url=None, pre=False, extra_options='', force_build=False, env=None, secrets=None, "
    "gpu=None)",
    "uv_sync": "(self, uv_project_dir='./', *, force_build=False, groups=None, extras=None, frozen=True, "
    "extra_options='', uv_version=None, env=None, secrets=None, gpu=None)",
    "poetry_install_from_file": "(self, poetry_pyproject_toml, poetry_lockfile=None, *, ignore_lockfile=False, "
    "force_build=False, with_=[], without=[], only=[], poetry_version='latest', old_installer=False, env=None, "
    "secrets=None, gpu=None)",
    "micromamba_install": "(self, *packages, spec_file=None, channels=[], force_build=False, env=None, secrets=None, "
    "gpu=None)",
    "dockerfile_commands": "(self, *dockerfile_commands, context_files=None, env=None, secrets=None, gpu=None, "
    "context_dir=None, force_build=False, ignore=AUTO_DOCKERIGNORE, build_args=None)",
    "run_function": "(self, raw_f, *, env=None, secrets=None, volumes=None, network_file_systems=None, gpu=None, "
    "cpu=None, memory=None, timeout=3600, cloud=None, region=None, force_build=False, args=(), kwargs=None, "
    "include_source=True)",
    "env": "(self, vars)",
    "workdir": "(self, path)",
    "run_commands": "(self, *commands, env=None, secrets=None, volumes=None, gpu=None, force_build=False)",
    "add_local_file": "(self, local_path, remote_path, *, copy=False)",
    "cmd": "(self, cmd)",
    "entrypoint": "(self, entrypoint_commands)",
    "shell": "(self, shell_commands)",
    "add_local_dir": "(self, local_path, remote_path, *, copy=False, ignore=())",
    "add_local_python_source": "(self, *modules, copy=False, ignore=NON_SOURCE_FILES)",
    "pipe": "(self, func, *args, **kwargs)",
    "imports": "(self)",
    "from_name": "(name, *, environment_name=None, client=None)",
    "build": "(self, app=None)",
    "publish": "(self, name, *, environment_name=None, experimental_options=None, client=None)",
    "hydrate": "(self, client=None)",
}
FACTORIES = [name for name, signature in SIGNATURES.items() if not signature.startswith("(self")]
DEFAULTS = {AUTO_DOCKERIGNORE: "AUTO_DOCKERIGNORE", NON_SOURCE_FILES: "NON_SOURCE_FILES"}
"""The names of defaults whose value is long to write."""


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_has_the_signature_of_the_reference(name: str) -> None:
    signature = inspect.signature(getattr(Image, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    shown = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    for value, named in DEFAULTS.items():
        shown = shown.replace(repr(value), named)
    assert shown == SIGNATURES[name]


def test_importing_the_package_loads_neither_the_chain_nor_third_parties() -> None:
    program = (
        "import sys; before = set(sys.modules); import pytest_imagebuild; new = set(sys.modules) - before\n"
        "assert 'pytest_imagebuild.image' not in new\n"
        "pytest_imagebuild.Image; new = set(sys.modules) - before\n"
        "print({n.partition('.')[0] for n in new} - set(sys.stdlib_module_names), 'asyncio' in new)"
    )
    root = str(Path(pytest_imagebuild.__file__).parents[1])
    done = subprocess.run([sys.executable, "-SEc", f"import sys; sys.path.insert(0, {root!r})\n{program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "{'pytest_imagebuild'} False\n"


def test_the_package_has_the_names_that_it_promises() -> None:
    for name in pytest_imagebuild.__all__:
        assert getattr(pytest_imagebuild, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Picture'"):
        pytest_imagebuild.Picture  # type: ignore[attr-defined]  # noqa: B018


def test_the_constructor_names_the_factories() -> None:
    with pytest.raises(DefinitionError, match=r"Image has no constructor\. Use .*Image\.debian_slim\(\)"):
        Image()


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name not in FACTORIES])
def test_a_step_on_the_class_says_that_no_image_has_been_constructed(name: str) -> None:
    with pytest.raises(
        DefinitionError, match=r"Image has not been constructed yet\. Use one of the static factory methods"
    ):
        getattr(Image, name)("x")
    with pytest.raises(DefinitionError) as caught:
        getattr(Image, name)()
    assert caught.value.where is not None
    assert caught.value.where.file == __file__


def test_a_call_gives_a_new_image_and_leaves_the_old_one() -> None:
    image = BASE.apt_install("git")
    assert image is not BASE
    assert len(BASE.steps) == 1
    assert image.steps[:1] == BASE.steps


def test_an_image_does_not_change() -> None:
    with pytest.raises(AttributeError, match="an image does not change: cannot set 'steps'"):
        BASE.steps = ()
    with pytest.raises(AttributeError, match="cannot delete 'steps'"):
        del BASE.steps


TOKEN = Secret.from_dict({"GITHUB_TOKEN": "hush"})
NOTHING = [
    lambda image: image.apt_install(),
    lambda image: image.apt_install([]),
    lambda image: image.pip_install(),
    lambda image: image.pip_install([], []),
    lambda image: image.pip_install([], force_build=True),
    lambda image: image.uv_pip_install([], []),
    lambda image: image.uv_pip_install(requirements=[]),
    lambda image: image.run_commands(),
    lambda image: image.run_commands([], []),
    lambda image: image.pip_install_private_repos(git_user="me", secrets=[TOKEN]),
]


@pytest.mark.parametrize("call", NOTHING)
def test_an_install_of_nothing_is_the_image_itself(call: object) -> None:
    assert callable(call)
    assert call(BASE) is BASE


def test_strings_and_lists_of_strings_are_the_same() -> None:
    assert BASE.apt_install("a", "b") == BASE.apt_install(["a", "b"]) == BASE.apt_install("a", ["b"])


def test_images_are_equal_by_their_calls_wherever_they_were_written() -> None:
    def science() -> Image:
        return Image.debian_slim("3.13").pip_install("a", env={"B": "2", "A": "1", "N": None}).add_local_file("a", "/a")

    one, two = science(), Image.debian_slim("3.13").pip_install("a", env={"A": "1", "B": "2"}).add_local_file("a", "/a")
    assert one == two
    assert one.where != two.where
    assert hash(one) == hash(two)
    assert one.definition == two.definition
    assert {one: 1}[two] == 1
    assert one != "image"


def test_images_that_differ_in_any_argument_are_not_equal() -> None:
    images = [
        BASE,
        Image.from_registry("debian:sid"),
        Image.debian_slim(),
        Image.debian_slim("3.13"),
        BASE.apt_install("a"),
        BASE.apt_install("a", "b"),
        BASE.apt_install("b", "a"),
        BASE.apt_install("a", force_build=True),
        BASE.apt_install("a", env={"A": "1"}),
        BASE.pip_install("a"),
        BASE.pip_install("a", pre=True),
        BASE.uv_pip_install("a"),
        BASE.run_commands("a"),
        BASE.add_local_file("a", "/a"),
        BASE.add_local_file("b", "/a"),
        BASE.add_local_file("a", "/a", copy=True),
        BASE.add_local_dir("a", "/a"),
        BASE.add_local_dir("a", "/a", ignore=["x"]),
    ]
    assert len(set(images)) == len(images)
    assert len({image.definition for image in images}) == len(images)


def test_images_with_different_callables_or_another_order_of_lazy_files_are_not_equal() -> None:
    assert BASE.add_local_dir("a", "/a", ignore=bool) != BASE.add_local_dir("a", "/a", ignore=callable)
    assert BASE.env({}).add_local_file("a", "/a") != BASE.add_local_file("a", "/a").env({})


def test_an_image_survives_pickling_and_copying() -> None:
    image = Image.debian_slim("3.13").env({"A": "1"}).add_local_dir("a", "/a", ignore=["*.pyc"]).workdir("/w")
    again = pickle.loads(pickle.dumps(image))
    assert again == image
    assert again.definition == image.definition
    assert again.where == image.where
    assert again.misplaced == image.misplaced
    assert copy.copy(image) is image
    assert copy.deepcopy([image]) == [image]


def test_a_forced_step_forces_all_that_come_after_it() -> None:
    image = BASE.apt_install("a").pip_install("b", force_build=True)
    image = image.env({"A": "1"}).workdir("/").add_local_file("a", "/a", copy=True).run_commands("c")
    assert [step.force for step in image.steps] == [False, False, True, True, True, True, True]
    assert [step.force for step in Image.debian_slim(force_build=True).uv_pip_install("a").steps] == [True, True]
    assert Image.from_registry("a", force_build=True).steps[0].force


def test_the_build_environment_is_sorted_and_without_none() -> None:
    image = BASE.run_commands("a", env={"B": "2", "N": None, "A": "1"})
    assert image.steps[-1].build_env == (("A", "1"), ("B", "2"))


def test_the_build_environment_is_not_shown() -> None:
    step = BASE.run_commands("a", env={"TOKEN": "hush"}).steps[-1]
    assert "hush" not in repr(step) + step.describe()


def test_lazy_files_are_recorded_in_order_and_make_no_step() -> None:
    image = BASE.add_local_file("a.txt", "/data/").add_local_dir("d", "/d/").add_local_python_source("pkg", "m.n")
    assert image.steps == BASE.steps
    assert image.local_sources == (
        LocalFile(local_path="a.txt", remote_path="/data/a.txt"),
        LocalDir(local_path="d", remote_path="/d", ignore=FilePatternMatcher()),
        LocalPythonSource(modules=("pkg", "m.n"), ignore=NON_SOURCE_FILES),
    )


@pytest.mark.parametrize(
    ("local", "remote", "recorded"),
    [
        ("x/a.txt", "/data/", "/data/a.txt"),
        ("x/a.txt", "/", "/a.txt"),
        ("x/a.txt", "/data", "/data"),
        (Path("~/a.txt"), PurePosixPath("/data/b"), "/data/b"),
        ("a", "/x/../../y//z", "/y/z"),
        ("a", "//x", "/x"),
    ],
)
def test_a_remote_path_is_whole_and_normal(local: str, remote: str, recorded: str) -> None:
    source = BASE.add_local_file(local, remote).local_sources[0]
    assert source == LocalFile(local_path=str(local), remote_path=recorded)


def test_a_folder_can_go_to_the_root() -> None:
    source = BASE.add_local_dir("a", "/").local_sources[0]
    assert isinstance(source, LocalDir)
    assert source.remote_path == "/"


def test_ignore_takes_one_pattern_several_a_matcher_or_a_callable() -> None:
    def ignore_of(ignore: object) -> object:
        source = BASE.add_local_dir("a", "/a", ignore=ignore).local_sources[0]  # type: ignore[arg-type]
        assert isinstance(source, LocalDir)
        return source.ignore

    assert ignore_of("*.py") == FilePatternMatcher("*.py")
    assert ignore_of(["a", "!b"]) == ignore_of(("a", "!b")) == FilePatternMatcher("a", "!b")
    assert ignore_of([]) == FilePatternMatcher()
    matcher = ~FilePatternMatcher("a")
    assert ignore_of(matcher) is matcher
    assert ignore_of(bool) is bool


def test_python_source_without_ignore_leaves_out_just_hidden_and_compiled_files() -> None:
    source = BASE.add_local_python_source("a", ignore=None).local_sources[0]
    assert isinstance(source, LocalPythonSource)
    assert source.ignore == HIDDEN_FILES


def test_pipe_gives_what_the_function_gives() -> None:
    def with_tools(image: Image, *tools: str, pre: bool) -> tuple[Image, bool]:
        return image.apt_install(*tools), pre

    image, pre = BASE.pipe(with_tools, "git", "curl", pre=True)
    assert image == BASE.apt_install("git", "curl")
    assert pre
    assert BASE.pipe(Image.apt_install, "git") == BASE.apt_install("git")


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_each_call_remembers_the_users_line() -> None:
    image = Image.debian_slim()
    first = here() - 1
    image = image.apt_install("a")
    image = image.add_local_file("a", "/a", copy=True)
    image = image.add_local_dir("a", "/a")
    lines = [step.where for step in image.steps] + [source.where for source in image.local_sources]
    assert lines == [SourceLocation(file=__file__, line=line) for line in (first, *range(first + 2, first + 5))]
    assert image.where == lines[0]


def test_the_line_of_a_call_in_a_piped_function_is_the_one_in_that_function() -> None:
    def tools(image: Image) -> Image:
        return image.apt_install("git")

    image = BASE.pipe(tools)
    assert image.steps[-1].where == SourceLocation(file=__file__, line=here() - 3)


def test_an_error_is_raised_with_the_users_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        BASE.apt_install(3)  # type: ignore[arg-type]
    line = here() - 1
    assert caught.value.where == SourceLocation(file=__file__, line=line)
    assert str(caught.value).startswith(f"{__file__}:{line}: apt_install: ")


LATE = [
    lambda image: image.apt_install("a"),
    lambda image: image.pip_install("a"),
    lambda image: image.uv_pip_install("a"),
    lambda image: image.env({}),
    lambda image: image.workdir("/"),
    lambda image: image.run_commands("a"),
    lambda image: image.add_local_file("a", "/a", copy=True),
    lambda image: image.add_local_dir("a", "/a", copy=True),
    lambda image: image.add_local_python_source("a", copy=True),
    lambda image: image.pip_install_private_repos("github.com/a/b", git_user="me", secrets=[TOKEN]),
    lambda image: image.pip_install_from_requirements("r.txt"),
    lambda image: image.pip_install_from_pyproject("pyproject.toml"),
    lambda image: image.uv_sync(),
    lambda image: image.poetry_install_from_file("pyproject.toml"),
    lambda image: image.micromamba_install("a"),
    lambda image: image.dockerfile_commands("RUN a"),
    lambda image: image.cmd(["a"]),
    lambda image: image.entrypoint([]),
    lambda image: image.shell(["a"]),
]


@pytest.mark.parametrize("call", LATE)
def test_a_build_step_after_lazy_files_is_an_error_when_the_chain_is_checked(call: object) -> None:
    assert callable(call)
    image = call(BASE.add_local_file("a", "/a"))
    assert image.misplaced is image.steps[-1]
    with pytest.raises(
        DefinitionError,
        match=r"An image tried to run a build step after using `image\.add_local_\*` to include local files\.",
    ):
        image.check()


def test_the_error_of_order_stands_at_the_late_step_and_shows_the_chain_that_works() -> None:
    image = BASE.add_local_dir("src", "/src").pip_install("a").env({"A": "1"})
    with pytest.raises(DefinitionError) as caught:
        image.check()
    assert caught.value.where == image.steps[1].where
    text = str(caught.value)
    assert 'pip_install("a") comes after add_local_dir("src", "/src"), whose files' in text
    assert '    image.add_local_dir("src", "/src", copy=True).pip_install("a")\n' in text


def test_more_lazy_files_no_ops_and_copies_before_them_are_in_order() -> None:
    image = BASE.add_local_file("a", "/a", copy=True).add_local_file("b", "/b").add_local_python_source("c")
    image = image.pip_install().pipe(lambda same: same)
    with image.imports():
        pass
    image.check()
    assert image.misplaced is None


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (Image.debian_slim("3.12").apt_install("git"), "py3.12"),
        (Image.debian_slim(), "debian_slim"),
        (BASE, "debian-trixie"),
        (Image.from_registry("ghcr.io/a/b_c:1.0@sha256:0"), "ghcr.io-a-b_c-1.0-sha256-0"),
        (Image.from_dockerfile("Dockerfile"), "Dockerfile"),
        (Image.from_dockerfile("./web/Dockerfile.test"), "web-Dockerfile.test"),
        (Image.from_dockerfile("/home/someone/web/Dockerfile"), "web-Dockerfile"),
    ],
)
def test_the_label_names_the_base(image: Image, label: str) -> None:
    assert image.label == label


LONG = "x" * 100
DESCRIBED = [
    (Image.debian_slim(), "debian_slim()"),
    (Image.debian_slim("3.13"), 'debian_slim("3.13")'),
    (BASE, 'from_registry("debian:trixie")'),
    (BASE.apt_install("git", "curl"), 'apt_install("git", "curl")'),
    (BASE.pip_install("b", "a", pre=True, index_url="https://user:word@host"), 'pip_install("b", "a", pre=True)'),
    (BASE.uv_pip_install("a", requirements=["r.txt"]), 'uv_pip_install("a", requirements=["r.txt"])'),
    (BASE.env({"A": "1"}), 'env({"A": "1"})'),
    (BASE.workdir("/w"), 'workdir("/w")'),
    (BASE.run_commands('echo "é"\n'), 'run_commands("echo \\"é\\"\\n")'),
    (BASE.run_commands("a", LONG), 'run_commands("a", …)'),
    (BASE.run_commands(LONG, "a"), f'run_commands("{"x" * 54}…)'),
    (BASE.add_local_file("a", "/b/", copy=True), 'add_local_file("a", "/b/a", copy=True)'),
    (BASE.add_local_python_source("a", "b", copy=True), 'add_local_python_source("a", "b", copy=True)'),
]


@pytest.mark.parametrize(("image", "words"), DESCRIBED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_step_is_described_in_the_users_words_on_one_short_line(image: Image, words: str) -> None:
    assert image.steps[-1].describe() == words
    assert len(words) <= 72


def test_the_repr_is_the_chain_cut_short() -> None:
    image = Image.debian_slim("3.13").apt_install("git")
    assert repr(image) == 'Image.debian_slim("3.13").apt_install("git")'
    image = image.env({}).workdir("/").add_local_file("a", "/a")
    assert repr(image) == 'Image.debian_slim("3.13").apt_install("git").env({}).…'

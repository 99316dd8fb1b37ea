"""What a Dockerfile makes is the same on every engine: BuildKit's result is the measure."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pytest_imagebuild.dockerfile import DockerfileError, read
from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.layers import BuiltLayer
from pytest_imagebuild.engines.protocol import Engine
from pytest_imagebuild.engines.work import CommandFailed, DockerfileWork, Work

from .conftest import EMBEDDED, REAL, daemon, new_key, opened, plain_labels
from .dockerfiles import BASE, CASES, Case

CURRENT = "docker-current"
BUILDX = os.environ.get("IMAGEBUILD_TEST_BUILDX", "")
# What differs by what the engine is, and not by what the Dockerfile says.
_KEYS = (
    *("Env", "WorkingDir", "User", "Cmd", "Entrypoint", "ExposedPorts", "Volumes", "StopSignal"),
    *("Healthcheck", "OnBuild", "Shell", "Labels"),
)
LISTING = r"""
import hashlib, json, os, stat
found = {}
for top in ("/t", "/t2", "/u"):
    for folder, names, files in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in (*files, *names))):
            status = os.lstat(path)
            entry = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
            if stat.S_ISLNK(status.st_mode):
                entry.append(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                content = open(path, "rb").read()
                short = len(content) < 400 and content.isascii()
                entry.append(content.decode() if short else hashlib.sha256(content).hexdigest())
            found[path] = entry
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def engines(cache_dir: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Engine]]:
    """Open every engine once; the current Docker has buildx, the older one has not."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        found = {}
        folder = request.getfixturevalue("tmp_path_factory").mktemp("bin")
        if BUILDX:
            (folder / "docker-buildx").symlink_to(BUILDX)
        for name in REAL:
            engine = stack.enter_context(opened(name, cache_dir))
            if name != EMBEDDED:
                with patch.context() as path:
                    path.setenv("PATH", f"{folder}:{os.environ['PATH']}" if name == CURRENT else "/usr/bin:/bin")
                    engine._open().dockerfiles  # type: ignore[attr-defined]  # noqa: B018
            found[name] = engine
        yield found


_layers: dict[tuple[str, str], BuiltLayer] = {}


def bases(engine: Engine, name: str, references: tuple[str, ...]) -> dict[str, BuiltLayer]:
    for reference in references:
        if (name, reference) not in _layers:
            pin = engine.pin_base(reference, print)
            _layers[name, reference] = engine.import_base(reference, pin, plain_labels(), print)
    return {reference: _layers[name, reference] for reference in references}


def build(engine: Engine, name: str, case: Case, lines: list[str] | None = None) -> BuiltLayer:
    platform = engine.capabilities().platform
    dockerfile = read(case.text, build_args=case.build_args, platform=platform, target=case.target)
    work = DockerfileWork(
        text=case.text,
        context=case.context(),
        build_args=case.build_args,
        target=case.target,
        bases=bases(engine, name, dockerfile.references),
        environment=case.environment,
        secrets=case.secrets,
    )
    output = print if lines is None else lines.append
    return engine.build_dockerfile(None, work, plain_labels(), output)


def config_of(engine: Engine, name: str, layer: BuiltLayer) -> dict[str, Any]:
    if name == EMBEDDED:
        config = dict(engine._open().store.record(layer.reference).config)  # type: ignore[attr-defined]
    else:
        config = daemon(name).api.inspect_image(layer.reference)["Config"]  # type: ignore[no-untyped-call]
    found = {key: config[key] for key in _KEYS if config.get(key)}
    labels = {
        key: value for key, value in (found.pop("Labels", None) or {}).items() if not key.startswith("imagebuild")
    }
    return {**found, **({"Labels": labels} if labels else {})}


def tree_of(engine: Engine, name: str, layer: BuiltLayer) -> dict[str, Any]:
    """Look at the files from another image where the layer has no Python of its own."""
    if layer.size < 20_000_000:
        text = "FROM made AS made\nFROM python\nCOPY --from=made /t /t\n"
        base = bases(engine, name, (BASE,))[BASE]
        work = DockerfileWork(text=text.replace("python", BASE), bases={"made": layer, BASE: base})
        layer = engine.build_dockerfile(None, work, plain_labels(), print)
    listed = engine.run(layer, Work(commands=(f"exec python3 - <<'END'\n{LISTING}\nEND",)), print)
    found: dict[str, Any] = json.loads(listed)
    return found


def outcome(engines: dict[str, Engine], name: str, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    engine = engines[name]
    layer = build(engine, name, CASES[title])
    return tree_of(engine, name, layer), config_of(engine, name, layer)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all xdist workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def measured(shelf: Path, engines: dict[str, Engine], title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return BuildKit's outcome, which whoever needs it first finds out for all."""
    kept = shelf / f"buildkit-{list(CASES).index(title)}.json"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_text(json.dumps(outcome(engines, CURRENT, title)), "utf-8")
        tree, config = json.loads(kept.read_text("utf-8"))
    return tree, config


@pytest.mark.parametrize("name", [name for name in REAL if name != CURRENT])
@pytest.mark.parametrize("title", CASES)
def test_the_same_dockerfile_makes_the_same_image(
    engines: dict[str, Engine], shelf: Path, name: str, title: str
) -> None:
    case = CASES[title]
    if CURRENT not in engines or not BUILDX:
        pytest.skip("there is no BuildKit to compare with")
    if name == "docker" and not case.classic:
        with pytest.raises(DockerfileError, match="needs BuildKit"):
            build(engines[name], name, case)
        return
    tree, config = outcome(engines, name, title)
    if name == "docker" and not case.same_as_classic:
        return
    measured_tree, measured_config = measured(shelf, engines, title)
    assert tree == measured_tree
    assert config == measured_config


@pytest.fixture(params=REAL)
def named(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> tuple[Engine, str]:
    return engines[request.param], request.param


def has_buildkit(name: str) -> bool:
    return name == EMBEDDED or (name == CURRENT and bool(BUILDX))


def test_a_run_that_fails_is_named_by_its_line_with_its_code_and_output(named: tuple[Engine, str]) -> None:
    engine, name = named
    text = f"# a comment\nFROM {BASE}\n\nRUN true\nRUN echo before && \\\n  echo said >&2; \\\n  exit 7\nRUN true\n"
    with pytest.raises(CommandFailed) as caught:
        build(engine, name, Case(text=text))
    assert 5 <= caught.value.index <= 7
    assert caught.value.exit_code == 7
    # BuildKit sends the two outputs in no order.
    assert sorted(caught.value.output.splitlines()) == ["before", "said"]


def test_a_failed_dockerfile_leaves_no_layer_and_no_image(named: tuple[Engine, str]) -> None:
    engine, name = named
    bases(engine, name, (BASE,))
    before = untagged(name)
    key = new_key()
    text = f"FROM {BASE} AS a\nRUN touch /a\nFROM {BASE}\nRUN touch /b\nCOPY --from=a /a /a\nRUN exit 1\n"
    work = DockerfileWork(text=text, bases=bases(engine, name, (BASE,)))
    with pytest.raises(CommandFailed):
        engine.build_dockerfile(None, work, plain_labels(key), print)
    assert engine.find(key) is None
    assert untagged(name) == before


def test_a_dockerfile_leaves_only_its_layer(named: tuple[Engine, str]) -> None:
    engine, name = named
    bases(engine, name, (BASE,))
    before = untagged(name)
    text = f"FROM {BASE} AS a\nRUN touch /a\nFROM {BASE}\nCOPY --from=a /a /a\n"
    work = DockerfileWork(text=text, bases=bases(engine, name, (BASE,)))
    labels = plain_labels()
    layer = engine.build_dockerfile(None, work, labels, print)
    assert engine.find(labels.key) == layer
    assert layer.labels == labels
    again = engine.build_dockerfile(None, work, labels, print)
    assert engine.find(labels.key) == again
    assert again.reference != layer.reference or name != EMBEDDED
    # What was replaced is there for the runs that began before.
    assert untagged(name) - {layer.reference} == before


def untagged(name: str) -> set[str]:
    """Return the images of a daemon that have no name and that nothing stands on."""
    return set() if name == EMBEDDED else {image["Id"] for image in daemon(name).api.images(filters={"dangling": True})}


def test_lines_on_a_layer_stand_on_it_and_others_build_on_them(named: tuple[Engine, str]) -> None:
    engine, name = named
    base = bases(engine, name, (BASE,))[BASE]
    below = engine.build(base, Work(commands=("mkdir /t && echo below > /t/f",)), plain_labels(), print)
    work = DockerfileWork(text="FROM base\nENV A=lines\nRUN echo $A >> /t/f\n")
    layer = engine.build_dockerfile(below, work, plain_labels(), print)
    above = engine.build(layer, Work(commands=("echo $A above >> /t/f",)), plain_labels(), print)
    assert engine.run(above, Work(commands=("cat /t/f",)), print) == b"below\nlines\nlines above\n"


def test_no_secret_and_no_variable_of_a_step_stays_in_the_image(named: tuple[Engine, str]) -> None:
    engine, name = named
    if not has_buildkit(name):
        pytest.skip("the classic builder takes none")
    said: list[str] = []
    case = Case(
        text=f"FROM {BASE}\nRUN --mount=type=secret,id=TOKEN test $(cut -c1-4 /run/secrets/TOKEN) = hush "
        '&& test $(echo "$STEP" | cut -c1-4) = only\n',
        secrets={"TOKEN": "hush-4711"},
        environment={"STEP": "only-4712"},
    )
    layer = build(engine, name, case, said)
    found = "\n".join(said) + json.dumps(config_of(engine, name, layer))
    if name == EMBEDDED:
        store = engine._open().store  # type: ignore[attr-defined]
        for path in store.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 100_000:
                found += path.read_bytes().decode("latin-1")
    else:
        api = daemon(name).api
        found += json.dumps(api.inspect_image(layer.reference))  # type: ignore[no-untyped-call]
        found += json.dumps(api.history(layer.reference))  # type: ignore[no-untyped-call]
    assert "hush-4711" not in found
    assert "only-4712" not in found
    listed = engine.run(layer, Work(commands=("ls -A /run /run/secrets 2>/dev/null; true",)), print).decode()
    assert "TOKEN" not in listed
    assert "imagebuild" not in listed


def test_tools_are_there_for_run_and_leave_nothing(named: tuple[Engine, str], tmp_path: Path) -> None:
    engine, name = named
    if not has_buildkit(name):
        pytest.skip("the classic builder takes none")
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    tool = FileEntry(path="/opt/imagebuild/ca.pem", mode=0o644, source=bundle)
    text = f"FROM {BASE}\nUSER games\nRUN test $(cat /opt/imagebuild/ca.pem) = certificates && test $PROXY = p\n"
    work = DockerfileWork(text=text, bases=bases(engine, name, (BASE,)), tools=(tool,), host_settings={"PROXY": "p"})
    layer = engine.build_dockerfile(None, work, plain_labels(), print)
    assert engine.run(layer, Work(commands=("ls /opt",)), print) == b""


def test_the_classic_builder_says_what_takes_buildkit_by_line(engines: dict[str, Engine]) -> None:
    if "docker" not in engines:
        pytest.skip("the older Docker is not there")
    with pytest.raises(DockerfileError) as caught:
        build(engines["docker"], "docker", Case(text=f"FROM {BASE}\nRUN true\nRUN <<EOF\ntrue\nEOF\n"))
    assert caught.value.line == 3
    assert caught.value.problem == (
        "a here-document needs BuildKit: install the buildx plugin of Docker (docker-buildx), "
        "or use the embedded engine"
    )


MAY = "; the docker engine with BuildKit may"
REFUSED = {
    "RUN --security=insecure true": "the embedded engine has no RUN --security=insecure" + MAY,
    "RUN --mount=type=ssh true": "the embedded engine has no RUN --mount=type=ssh" + MAY,
    "RUN --mount=type=cache,target=/x,from=a true": (
        "the embedded engine knows no from= in RUN --mount=type=cache" + MAY
    ),
    "RUN --mount=type=tmpfs true": "RUN --mount=type=tmpfs needs a target=",
    "RUN --device=x true": "the embedded engine has no RUN --device" + MAY,
    "COPY --parents a /": "the embedded engine has no COPY --parents" + MAY,
    "COPY --exclude=*.x a /": "the embedded engine has no COPY --exclude" + MAY,
    "ADD https://example.org/a.git /x": "the embedded engine adds no Git repositories" + MAY,
    "COPY a b /to": "COPY of several sources needs a destination that ends with a slash",
    "MAKE it so": "MAKE is no instruction of a Dockerfile",
    "COPY --color=red a b": "COPY has no flag --color",
}


@pytest.mark.parametrize("line", REFUSED)
def test_the_embedded_engine_refuses_by_line_before_anything_runs(engines: dict[str, Engine], line: str) -> None:
    if EMBEDDED not in engines:
        pytest.skip("the embedded engine is not chosen")
    said: list[str] = []
    work = DockerfileWork(
        text=f"FROM {BASE}\nRUN echo ran\n{line}\n", bases=bases(engines[EMBEDDED], EMBEDDED, (BASE,))
    )
    with pytest.raises(DockerfileError) as caught:
        engines[EMBEDDED].build_dockerfile(None, work, plain_labels(), said.append)
    assert caught.value.line == 3
    assert caught.value.problem == REFUSED[line]
    assert said == []


def test_add_fetches_a_url_and_checks_it(engines: dict[str, Engine], tmp_path: Path) -> None:
    if EMBEDDED not in engines:
        pytest.skip("only the embedded engine shares the network of this machine")
    engine = engines[EMBEDDED]
    base = bases(engine, EMBEDDED, (BASE,))
    with served(tmp_path, b"content") as address:
        import hashlib

        digest = hashlib.sha256(b"content").hexdigest()
        text = f"FROM {BASE}\nADD --checksum=sha256:{digest} {address}/file.bin /t/\n"
        layer = engine.build_dockerfile(None, DockerfileWork(text=text, bases=base), plain_labels(), print)
        wrong = f"FROM {BASE}\nADD --checksum=sha256:{'0' * 64} {address}/file.bin /t/\n"
        with pytest.raises(CommandFailed) as caught:
            engine.build_dockerfile(None, DockerfileWork(text=wrong, bases=base), plain_labels(), print)
    assert engine.run(layer, Work(commands=("stat -c %a /t/file.bin; cat /t/file.bin",)), print) == b"600\ncontent"
    assert caught.value.index == 2
    assert caught.value.output == (
        f"{address}/file.bin has the checksum sha256:{digest}, and sha256:{'0' * 64} was asked for"
    )


@contextlib.contextmanager
def served(folder: Path, content: bytes) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (folder / "file.bin").write_bytes(content)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("no_proxy", "127.0.0.1")
                yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

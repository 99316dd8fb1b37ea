"""`imagebuild ls`, `prune`, `import` and `doctor`, run as a user runs them, also beside runs."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from bases import MANIFEST, SOURCE, TAG
from engines import EngineUnderTest, on_one_engine
from gate import Gate
from observing import wait_until
from pruning import MINE
from running import Running

BASE = "python:3.13-slim-trixie"


@pytest.fixture
def images(project: pytest.Pytester, nonce: str, engine: EngineUnderTest) -> Iterator[pytest.Pytester]:
    """Return a project with two images on a common layer, and a test in each."""
    project.makepyfile(
        test_images=f"""
        import time
        import pytest
        from pytest_imagebuild import Image

        common = Image.from_registry("{BASE}").run_commands(": {nonce}; head -c 3000000 /dev/urandom > /c")
        one = common.run_commands("head -c 2000000 /dev/urandom > /one")
        two = common.run_commands("head -c 1000000 /dev/urandom > /two")

        @pytest.mark.image(one)
        def test_one():
            pass

        @pytest.mark.image(two)
        def test_two():
            pass
        """,
    )
    yield project
    engine.remove_layers(nonce)


def command(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.run(str(Path(sys.executable).with_name("imagebuild")), *arguments, timeout=120)


def mine(project: pytest.Pytester, nonce: str, *arguments: str) -> pytest.RunResult:
    return project.run(sys.executable, "-c", MINE, nonce, "", *arguments, timeout=120)


def kept(project: pytest.Pytester, nonce: str) -> dict[str, dict[str, object]]:
    """Return what `ls --json` says of each layer, by its step."""
    result = mine(project, nonce, "ls", "--json")
    assert result.ret == 0, result.stderr.str()
    layers = json.loads(result.stdout.str())
    names = {layer["key"]: layer["step"] for layer in layers}
    return {f"{layer['step']} on {names.get(layer['parent'], 'nothing')}": layer for layer in layers}


# ls -----------------------------------------------------------------------------------------------------------------


def test_ls_says_of_each_layer_its_sizes_its_last_use_and_what_it_is(images: pytest.Pytester, nonce: str) -> None:
    assert images.runpytest("-q").ret == 0
    shown = mine(images, nonce, "ls")
    assert shown.ret == 0
    head, *rows, total = shown.stdout.lines
    assert head.split("  ")[0] == "LAYER"
    number, time_ = r"[\d.]+ (B|kB|MB|GB)", r"\d+ (s|min)"
    line = re.compile(rf"[0-9a-f]{{12}} +{number} +{number} +{time_} +{time_}  \S.*")
    assert all(line.fullmatch(row) for row in rows), shown.stdout.str()
    assert len(rows) == 5
    assert f'run_commands(": {nonce}' in rows[0]
    of = re.compile(rf"the runtime layer \(pytest\)  \[python-3\.13-slim-trixie, {images.path}/test_images\.py:\d+\]$")
    assert len([row for row in rows if of.search(row)]) == 2, "each is the top of an image"
    assert re.match(r"5 layers, \d\d(\.\d)? MB", total)
    in_full = mine(images, nonce, "ls", "-v")
    assert re.match(r"[0-9a-f]{64} ", in_full.stdout.lines[1])


def test_ls_gives_machines_one_json_document(images: pytest.Pytester, nonce: str) -> None:
    assert images.runpytest("-q").ret == 0
    layers = kept(images, nonce)
    (one,) = [layer for name, layer in layers.items() if "/one" in name.split(" on ")[0]]
    (common,) = [layer for name, layer in layers.items() if f": {nonce}" in name.split(" on ")[0]]
    assert one["own_size"] == pytest.approx(2_000_000, rel=0.1)
    assert one["parent"] == common["key"]
    assert one["size"] > common["size"] > 100_000_000  # type: ignore[operator]
    assert time.time() - float(str(one["last_use"])) < 120
    assert one["in_use"] is False


# prune --------------------------------------------------------------------------------------------------------------


def test_prune_removes_the_least_recently_used_and_what_goes_is_built_again(
    images: pytest.Pytester, nonce: str
) -> None:
    assert images.runpytest("-q").ret == 0
    time.sleep(1.1)
    assert images.runpytest("-q", "-k", "two").ret == 0
    before = mine(images, nonce, "prune", "--older-than", "0h", "--dry-run").stdout.lines
    assert len([line for line in before if line.startswith("would remove: ")]) == 5
    assert len(kept(images, nonce)) == 5

    sizes = {name: int(str(layer["own_size"])) for name, layer in kept(images, nonce).items()}
    # A byte more than the first that goes, a runtime layer, holds.
    enough = max(size for name, size in sizes.items() if "runtime" in name.split(" on ")[0]) + 1
    pruned = mine(images, nonce, "prune", "--keep-size", f"{sum(sizes.values()) - enough}B")
    assert pruned.ret == 0
    removed = [line for line in pruned.stdout.lines if line.startswith("removed: ")]
    assert ["runtime" in removed[0], "/one" in removed[1], len(removed)] == [True, True, 2], pruned.stdout.str()
    assert re.fullmatch(r"freed [\d.]+ MB: removed 2; [\d.]+ MB of layers are left", pruned.stdout.lines[-1])

    warm = images.runpytest("-k", "two")
    assert re.search(r"reused \d+, built 0", warm.stdout.str())
    again = images.runpytest()
    again.assert_outcomes(passed=2)
    assert re.search(r"built 2 in", again.stdout.str())


def test_prune_without_options_removes_no_layer_of_the_cache(images: pytest.Pytester, nonce: str) -> None:
    assert images.runpytest("-q").ret == 0
    pruned = command(images, "prune")
    assert pruned.ret == 0, pruned.stderr.str()
    assert re.search(r"^freed .*: removed \d+; .* of layers are left$", pruned.stdout.lines[-1])
    assert re.search(r"reused \d+, built 0", images.runpytest().stdout.str())


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--older-than", "14", "'14' is not a time. Write a number with a unit, such as 14d, 12h, 2w or 30m."),
        ("--keep-size", "20XB", "'20XB' is not a size. Write a number with a unit, such as 20GB, 500MB or 1.5GiB."),
    ],
)
@on_one_engine()
def test_a_wrong_bound_is_wrong_use(project: pytest.Pytester, flag: str, value: str, sentence: str) -> None:
    result = command(project, "prune", flag, value)
    assert result.ret == 2
    assert result.stderr.lines[-1] == f"imagebuild prune: error: argument {flag}: {sentence}"


def test_what_a_run_uses_stays_and_goes_when_it_has_ended(
    images: pytest.Pytester, nonce: str, engine: EngineUnderTest
) -> None:
    with Gate(engine.host_address) as gate:
        images.makepyfile(
            test_slow=f"""
            import pathlib
            import pytest
            from test_images import one

            @pytest.mark.image(one)
            def test_slow():
                {gate.wait}
                assert pathlib.Path("/one").stat().st_size == 2000000
            """
        )
        assert images.runpytest("-q", "--image-build-only").ret == 0
        with Running(images.path, "test_slow.py") as running:
            wait_until("the test to run", running.while_alive(gate.reached), timeout=120)
            pruned = mine(images, nonce, "prune", "--older-than", "0h", "-v")
            left = kept(images, nonce)
            gate.open()
            assert running.wait(60) == 0, running.output
    assert pruned.ret == 0
    assert [line for line in pruned.stdout.lines if line.startswith("in use, stays: the runtime layer (pytest)")]
    assert "/two" in "".join(line for line in pruned.stdout.lines if line.startswith("removed: "))
    assert len(left) == 3, "the runtime layer, and the two that it stands on"
    assert mine(images, nonce, "prune", "--older-than", "0h").ret == 0
    assert kept(images, nonce) == {}


def test_runs_beside_a_prune_that_never_stops_end_green(images: pytest.Pytester, nonce: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    arguments = [sys.executable, "-c", MINE, nonce, str(stop), "prune", "--older-than", "0h"]
    with subprocess.Popen(
        arguments, cwd=images.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
    ) as pruning:
        try:
            for _ in range(3):
                with Running(images.path) as first, Running(images.path) as second:
                    assert first.wait(120) == 0, first.output
                    assert second.wait(120) == 0, second.output
                    assert "2 passed" in first.output
                    assert "2 passed" in second.output
        finally:
            stop.touch()
        said, _ = pruning.communicate(timeout=60)
    assert pruning.returncode == 0, said
    assert said.count(f": {nonce}") > 1, "the common layer was removed more than once"


# import -------------------------------------------------------------------------------------------------------------


def test_an_imported_archive_is_a_base_image(
    project: pytest.Pytester, nonce: str, engine: EngineUnderTest, tmp_path: Path
) -> None:
    name = f"imported/{nonce}:1"
    archive = tmp_path / "image.tar"
    write_archive(archive, f"docker.io/{name}")
    result = command(project, "import", str(archive))
    assert result.ret == 0, result.stderr.str()
    assert result.stdout.lines[-1] == f'{name}: Image.from_registry("{name}")'
    project.makepyfile(
        f"""
        import sys
        import pytest
        from pytest_imagebuild import Image

        @pytest.mark.image(Image.from_registry("{name}").run_commands(": {nonce}"))
        def test_it():
            assert sys.version_info[:2] == (3, 13)
        """
    )
    project.runpytest().assert_outcomes(passed=1)
    engine.remove_layers(nonce)
    if engine.name == "docker":
        with closing(docker.from_env()) as client:
            client.images.remove(name)


def test_what_cannot_be_imported_is_explained(project: pytest.Pytester, tmp_path: Path) -> None:
    missing = command(project, "import", str(tmp_path / "nowhere.tar"))
    assert missing.ret == 1
    assert missing.stderr.lines == [
        f"imagebuild: {tmp_path}/nowhere.tar should be an archive as `docker save` writes it, found nothing."
    ]
    (tmp_path / "text.tar").write_text("not an archive\n" * 1000)
    text = command(project, "import", str(tmp_path / "text.tar"))
    assert text.ret == 1
    assert re.match(rf"imagebuild: the image archive {tmp_path}/text\.tar cannot be read: ", text.stderr.str())
    assert "Traceback" not in text.stderr.str()


def write_archive(path: Path, name: str) -> None:
    """Write the usual base image as a tar of an OCI layout, named as containerd names it."""
    manifest = registry(f"manifests/{TAG}", {"Accept": MANIFEST})
    parsed = json.loads(manifest)
    digests = [parsed["config"]["digest"], *(layer["digest"] for layer in parsed["layers"])]
    blobs = {digest: registry(f"blobs/{digest}") for digest in digests}
    import hashlib

    own = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    entry = {"mediaType": MANIFEST, "digest": own, "size": len(manifest)}
    index = {
        "schemaVersion": 2,
        "manifests": [{**entry, "annotations": {"io.containerd.image.name": name}}],
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/{digest.replace(':', '/')}": data for digest, data in {**blobs, own: manifest}.items()},
    }
    with tarfile.open(path, "w") as tar:
        for place, data in files.items():
            info = tarfile.TarInfo(place)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def registry(path: str, headers: dict[str, str] | None = None) -> bytes:
    host = os.environ["IMAGEBUILD_TEST_REGISTRY"]
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", f"/v2/{SOURCE}/{path}", headers=headers or {})
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


# doctor -------------------------------------------------------------------------------------------------------------


def test_doctor_names_what_each_engine_found_and_where_tests_run(
    project: pytest.Pytester, engine: EngineUnderTest
) -> None:
    result = command(project, "doctor")
    assert result.ret == 0, result.stdout.str()
    lines = result.stdout.lines
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "docker:",
        "embedded:",
        "any engine:",
    ]
    assert any(re.match(r"  ok    Docker API: version [\d.]+\S* answers, linux/", line) for line in lines)
    assert any(re.match(r"  ok    overlay mounts: they work in ", line) for line in lines)
    assert lines[-1] == f"Tests run on the engine {engine.name}."


def test_doctor_fails_where_the_engine_that_is_asked_for_cannot_be_used(
    project: pytest.Pytester, engine: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engine.outage.environment.items():
        monkeypatch.setenv(name, value)
    result = command(project, "doctor")
    assert result.ret == 1
    assert re.search(r"^  FAIL  .*\n        \S", result.stdout.str(), re.MULTILINE)
    assert result.stdout.lines[-1] == (f"Tests are told to run on the engine {engine.name}, which cannot be used here.")


@on_one_engine()
def test_doctor_takes_the_engine_that_works(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setenv("IMAGEBUILD_ENGINE", "auto")
    result = command(project, "doctor")
    assert result.ret == 0
    assert "  FAIL  Docker API: Docker does not answer at unix:///nonexistent/docker.sock" in result.stdout.str()
    assert result.stdout.lines[-1] == "Tests run on the engine embedded."

"""`gpu=` of the marker and of steps, as a user meets them, on devices that are harmless files."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from engines import EngineUnderTest, only
from inner import Inner, failure_of, outcomes
from observing import wait_until

IMAGES = """
    from pytest_imagebuild import Image

    IMAGE = Image.from_registry("python:3.13-slim-trixie")
    """

PROJECT = {
    "pytest.ini": "[pytest]\naddopts = --strict-markers\n",
    "images.py": IMAGES,
    "test_it.py": """
        import os
        from pathlib import Path

        import pytest
        from images import IMAGE


        def devices():
            return sorted(path.name for path in Path("/dev").glob("acme*"))


        @pytest.mark.image(IMAGE, gpu="X1")
        def test_one(request):
            assert devices() == ["acme0"]
            assert os.environ["ACME_0"] == "X1"
            assert request.node.get_closest_marker("gpu") is not None


        @pytest.mark.image(IMAGE, gpu=["H100", "any:2"])
        def test_both():
            assert devices() == ["acme0", "acme1"]


        @pytest.mark.image(IMAGE, gpu="X2", isolation="test")
        @pytest.mark.parametrize("number", range(3))
        def test_isolated(number):
            assert devices() == ["acme1"]
            assert not Path("/written").exists()
            Path("/written").touch()


        @pytest.mark.image(IMAGE, gpu="X1", env={"ACME_0": "mine"})
        def test_the_variables_of_the_marker_win():
            assert os.environ["ACME_0"] == "mine"


        @pytest.mark.image(IMAGE)
        def test_none():
            assert devices() == []


        @pytest.mark.image(IMAGE, gpu="H100")
        def test_another_type():
            raise AssertionError("it runs")


        @pytest.mark.image(IMAGE.run_commands("exit 1"), gpu="X1:2")
        def test_too_many():
            raise AssertionError("it runs")
        """,
}


def _specify(folder: Path, count: int = 2) -> str:
    folder.mkdir(parents=True)
    devices = [
        {
            "name": str(number),
            "annotations": {"imagebuild/gpu-type": f"X{number + 1}"},
            "containerEdits": {
                "deviceNodes": [{"path": f"/dev/acme{number}", "hostPath": "/dev/null"}],
                "env": [f"ACME_{number}=X{number + 1}"],
            },
        }
        for number in range(count)
    ]
    text = json.dumps({"cdiVersion": "0.6.0", "kind": "acme.com/gpu", "devices": devices})
    (folder / "acme.json").write_text(text)
    return str(folder)


@only("embedded")
def test_tests_have_the_gpus_that_they_ask_for(tmp_path: Path, engine: EngineUnderTest) -> None:
    ran = Inner(tmp_path, engine).write(PROJECT).run("-v", "-rs", IMAGEBUILD_CDI_DIRS=_specify(tmp_path / "cdi"))
    assert outcomes(ran) == {
        "test_one": "PASSED",
        "test_both": "PASSED",
        **{f"test_isolated[{number}]": "PASSED" for number in range(3)},
        "test_the_variables_of_the_marker_win": "PASSED",
        "test_none": "PASSED",
        "test_another_type": "SKIPPED",
        "test_too_many": "SKIPPED",
    }, ran.text
    assert "asked for H100, found X1 (acme.com/gpu=0), X2 (acme.com/gpu=1) (looked at " in ran.out
    assert engine.containers() == []


@only("embedded")
def test_a_marker_expression_selects_them(tmp_path: Path, engine: EngineUnderTest) -> None:
    project = Inner(tmp_path, engine).write(PROJECT)
    ran = project.run("-v", "-m", "not gpu", IMAGEBUILD_CDI_DIRS=_specify(tmp_path / "cdi"))
    assert outcomes(ran) == {"test_none": "PASSED"}


def test_where_there_is_no_gpu_tests_are_skipped_or_fail_and_the_others_run(
    tmp_path: Path, engine: EngineUnderTest
) -> None:
    project = Inner(tmp_path, engine).write(PROJECT)
    empty = str(tmp_path / "none")
    skipped = project.run("-v", "-rs", IMAGEBUILD_CDI_DIRS=empty)
    assert outcomes(skipped).pop("test_none") == "PASSED"
    assert set(outcomes(skipped).values()) == {"PASSED", "SKIPPED"}
    assert "asked for H100 or any:2, found " in skipped.out
    failed = project.run("-v", "--gpu-missing=fail", "--tb=short", IMAGEBUILD_CDI_DIRS=empty)
    assert outcomes(failed)["test_another_type"] == "ERROR"
    assert "asked for H100, found " in failure_of(failed, "test_another_type")


STEP = {
    "pytest.ini": "[pytest]\n",
    "images.py": IMAGES,
    "test_it.py": """
        from pathlib import Path

        import pytest
        from images import IMAGE

        WITH = IMAGE.run_commands("test -c /dev/acme0 && echo NONCE > /made", gpu="X1")


        @pytest.mark.image(WITH)
        def test_it():
            assert Path("/made").exists()
            assert not Path("/dev/acme0").exists()
        """,
}


@only("embedded")
def test_a_step_has_its_gpu_and_where_there_is_none_its_line_is_told(
    tmp_path: Path, engine: EngineUnderTest, nonce: str
) -> None:
    project = Inner(tmp_path, engine).write({**STEP, "test_it.py": STEP["test_it.py"].replace("NONCE", nonce)})
    without = project.run("-v", IMAGEBUILD_CDI_DIRS=str(tmp_path / "none"))
    assert outcomes(without) == {"test_it": "ERROR"}
    assert f"{project.folder / 'test_it.py'}:6: run_commands(" in without.out
    assert "asked for X1, found no GPU" in without.out
    ran = project.run("-v", IMAGEBUILD_CDI_DIRS=_specify(tmp_path / "cdi"))
    assert outcomes(ran) == {"test_it": "PASSED"}, ran.text


SHARED = {
    "pytest.ini": "[pytest]\n",
    "images.py": IMAGES,
    **{
        f"test_{name}.py": """
        import time

        import pytest
        from images import IMAGE


        @pytest.mark.image(IMAGE, gpu="X1", env={"OTHER": "NAME"})
        @pytest.mark.parametrize("number", range(3))
        def test_with(number, record_property):
            record_property("begin", time.time())
            time.sleep(0.2)
            record_property("end", time.time())


        @pytest.mark.image(IMAGE)
        @pytest.mark.parametrize("number", range(3))
        def test_without(number):
            pass


        def test_on_the_host():
            pass
        """.replace("NAME", name)
        for name in ("a", "b", "c")
    },
}


@only("embedded")
@pytest.mark.parametrize("mode", ["load", "worksteal", "loadscope", "no"])
def test_with_one_gpu_and_several_sessions_no_two_tests_share_it_and_none_waits_for_ever(
    tmp_path: Path, engine: EngineUnderTest, mode: str
) -> None:
    if mode != "no":
        pytest.importorskip("xdist")
    distributed = [] if mode == "no" else ["-p", "xdist", "-n3", f"--dist={mode}"]
    ran = (
        Inner(tmp_path, engine)
        .write(SHARED)
        .run("-q", *distributed, "--junitxml=../out.xml", IMAGEBUILD_CDI_DIRS=_specify(tmp_path / "cdi", count=1))
    )
    assert "21 passed" in ran.out, ran.text
    used = sorted(
        (float(values["begin"]), float(values["end"]))
        for case in ET.parse(tmp_path / "out.xml").iter("testcase")
        if (values := {each.get("name"): each.get("value", "") for each in case.iter("property")})
    )
    assert len(used) == 9
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(used))
    assert engine.containers() == []


@only("embedded")
def test_two_runs_share_a_gpu_and_a_killed_one_lets_go(tmp_path: Path, engine: EngineUnderTest) -> None:
    specified = _specify(tmp_path / "cdi", count=1)
    first, second = (
        Inner(tmp_path / name, engine).write(
            {
                "pytest.ini": "[pytest]\n",
                "images.py": IMAGES,
                "test_it.py": f"""
                import time
                import pytest
                from images import IMAGE

                @pytest.mark.image(IMAGE, gpu="any")
                def test_it():
                    print("it has the GPU", flush=True)
                    time.sleep({seconds})
                """,
            }
        )
        for name, seconds in (("one", 600), ("two", 0))
    )
    holds = first.begin("-s", IMAGEBUILD_CDI_DIRS=specified)
    wait_until("the first has the GPU", lambda: "it has the GPU" in holds.out())
    waits = second.begin("-s", IMAGEBUILD_CDI_DIRS=specified)
    wait_until("the second waits", lambda: "waits for a GPU (any): others use it" in waits.out())
    holds.process.kill()
    ran = waits.wait()
    assert "it has the GPU" in ran.out
    assert "1 passed" in ran.out

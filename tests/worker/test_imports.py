# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""An `imports()` block in containers: of its own image, and of another one."""

from __future__ import annotations

from live_worker import Makes

from pytest_imagebuild import Image

OWN = Image.debian_slim("3.13").pip_install("pandas")
OTHER = Image.debian_slim("3.12")

MODULE = """
from pytest_imagebuild import Image
import pytest

own = Image.debian_slim("3.13").pip_install("pandas")
other = Image.debian_slim("3.12")

with own.imports():
    import no_such_pandas as pd

@pytest.mark.image(own, other)
def test_it():
    print(pd)

@pytest.mark.image(other)
def test_other():
    pass
"""


def started(worker: Makes, image: Image):  # type: ignore[no-untyped-def]
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "IMAGEBUILD_IMAGE": image.definition}
    return worker(MODULE).start(environment=variables)


def test_in_a_container_of_its_image_the_error_is_that_of_the_collection(worker: Makes) -> None:
    live = started(worker, OWN)
    missing = live.run("test_it.py::test_it[py3.13]").missing
    assert missing.outcome == "failed"
    assert "ModuleNotFoundError: No module named 'no_such_pandas'" in missing.reason
    assert "import no_such_pandas as pd" in missing.reason


def test_in_a_container_of_another_image_it_is_swallowed_and_told_where_the_name_is_missed(worker: Makes) -> None:
    live = started(worker, OTHER)
    assert live.run("test_it.py::test_other").outcomes["call"] == "passed"
    failed = live.run("test_it.py::test_it[py3.12]")
    assert failed.failure == "NameError: name 'pd' is not defined"
    [text] = [text for title, text in failed.reports["call"]["sections"] if title == "imports() blocks"]
    assert text == (
        f"the imports() block at {live.project}/test_it.py:7 failed here: "
        "ModuleNotFoundError: No module named 'no_such_pandas'"
    )

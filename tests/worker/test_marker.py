# A message of another kind than the test expects fails it where it is used.
# mypy: disable-error-code="union-attr, index, arg-type, attr-defined"
"""Several images in one marker parametrize the test."""

from __future__ import annotations

import pytest
from live_worker import Makes

from pytest_imagebuild.worker import marker

TESTS = """
    import pytest

    class FakeImage:
        def __init__(self, label):
            self.label = label

    one, two = FakeImage("one"), FakeImage("two")

    @pytest.mark.image(one, two)
    def test_takes_it(image_under_test) -> None:
        assert image_under_test in (one, two)

    @pytest.mark.image(one, two)
    def test_does_not_take_it() -> None:
        pass

    @pytest.mark.image(one, two)
    @pytest.mark.parametrize("number", [1, 2])
    def test_outermost(number) -> None:
        pass

    @pytest.mark.image(one, two)
    @pytest.mark.parametrize("image_under_test", [one], ids=["mine"])
    def test_by_himself(image_under_test) -> None:
        assert image_under_test is one

    @pytest.mark.image(one)
    def test_single(image_under_test) -> None:
        assert image_under_test is one

    def test_unmarked(image_under_test) -> None:
        assert image_under_test is None

    @pytest.fixture
    def label(image_under_test):
        return image_under_test.label

    @pytest.mark.image(one, two)
    def test_through_a_fixture(label, request) -> None:
        assert request.node.name.endswith(f"[{label}]")

    @pytest.mark.image(one, two)
    class TestInner:
        def test_from_the_class(self, image_under_test) -> None:
            assert image_under_test in (one, two)

        @pytest.mark.image(two)
        def test_closest(self, image_under_test) -> None:
            assert image_under_test is two
"""

IDS = [
    "test_takes_it[one]",
    "test_takes_it[two]",
    "test_does_not_take_it[one]",
    "test_does_not_take_it[two]",
    "test_outermost[one-1]",
    "test_outermost[one-2]",
    "test_outermost[two-1]",
    "test_outermost[two-2]",
    "test_by_himself[mine]",
    "test_single",
    "test_unmarked",
    "test_through_a_fixture[one]",
    "test_through_a_fixture[two]",
    "TestInner::test_from_the_class[one]",
    "TestInner::test_from_the_class[two]",
    "TestInner::test_closest",
]


def test_the_worker_gives_the_ids_that_the_controller_gives(worker: Makes) -> None:
    live = worker(TESTS).start(markers=("image(image): run inside",))

    for nodeid in IDS:
        run = live.run(f"test_it.py::{nodeid}")
        assert run.failure == "", nodeid
        assert run.outcomes["call"] == "passed"
    assert live.session.collected.items == len(IDS)


def test_the_controller_gives_the_same_ids_and_knows_the_image_of_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nmarkers = image(image): run inside")
    items, _ = pytester.inline_genitems("-p", "no:imagebuild", "-p", marker.__name__)

    assert [item.nodeid.partition("::")[2] for item in items] == IDS
    labels = [getattr(marker.image_of(item), "label", None) for item in items]
    assert labels == [
        "one", "two", "one", "two", "one", "one", "two", "two", "one", "one", None, "one", "two", "one", "two", "two",
    ]  # fmt: skip

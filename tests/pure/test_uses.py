"""Claims on layers and their last uses, between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_imagebuild.engines.uses import Uses, folder_name

HOLD = """\
import sys
from pathlib import Path
from pytest_imagebuild.engines.uses import Uses
uses = Uses(Path(sys.argv[1]), "store")
print(uses.claim(["a", "b"]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def uses(tmp_path: Path) -> Uses:
    return Uses(tmp_path, "store")


def removes(uses: Uses, key: str) -> bool:
    with uses.removing(key) as free:
        return free


def aged(folder: Path, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / "uses" / "store" / "last" / key, (then, then))


def test_what_a_living_process_claimed_is_not_removed_and_its_death_ends_the_claim(tmp_path: Path, uses: Uses) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert [removes(uses, key) for key in ("a", "b", "c")] == [False, False, True]
        begun = time.time()
        assert uses.claim(["b", "c"])
        claimed = uses.claimed()
        assert claimed["a"] == pytest.approx(claimed["b"])
        assert begun - 60 < claimed["b"] < begun <= claimed["c"] <= time.time(), "of two claims, the first counts"
        uses.release()
        assert set(uses.claimed()) == {"a", "b"}
        holder.kill()
        holder.wait(10)
        assert removes(uses, "a")
    assert list((tmp_path / "uses" / "store" / "claims").iterdir()) == [], "nothing is left of the dead"


def test_what_a_dead_process_claimed_is_forgotten_at_the_next_claim(tmp_path: Path, uses: Uses) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        holder.kill()
    claims = tmp_path / "uses" / "store" / "claims"
    dead = set(claims.iterdir())
    assert len(dead) == 2
    assert uses.claim(["c"])
    assert len(set(claims.iterdir())) == 2
    assert not dead & set(claims.iterdir())
    uses.release()


def test_a_claim_of_an_older_version_and_one_that_was_cut_short_are_older_than_all(tmp_path: Path, uses: Uses) -> None:
    mine = Uses(tmp_path, "store")
    assert mine.claim(["a"])
    (claims,) = (path for path in (tmp_path / "uses" / "store" / "claims").iterdir() if path.suffix != ".lock")
    claims.write_text("a\nb\nc 17.5d 18.5\n")
    assert uses.claimed() == {"a": 0, "b": 0, "c": 0}
    assert not removes(uses, "b")
    mine.release()


def test_a_claim_in_the_same_process_holds_as_well_until_it_is_released(tmp_path: Path, uses: Uses) -> None:
    mine = Uses(tmp_path, "store")
    assert mine.claim(["a"])
    assert not removes(uses, "a")
    mine.release()
    assert removes(uses, "a")
    mine.release()


def test_a_claim_on_what_was_looked_up_before_a_removal_is_refused(tmp_path: Path, uses: Uses) -> None:
    mine = Uses(tmp_path, "store")
    mark = mine.mark()
    assert mine.claim(["a"], mark)
    assert removes(uses, "b")
    assert mine.claim(["a"], mark), "what is claimed already cannot have gone"
    assert not mine.claim(["b"], mark)
    assert removes(uses, "b"), "a refused claim is none"
    assert mine.claim(["b"], mine.mark())
    assert not removes(uses, "b")


def test_a_removal_that_is_refused_makes_nobody_look_again(tmp_path: Path, uses: Uses) -> None:
    mine = Uses(tmp_path, "store")
    mark = mine.mark()
    assert mine.claim(["a"], mark)
    assert not removes(uses, "a")
    assert mine.claim(["b"], mark)


def test_a_claim_waits_for_a_removal_that_goes_on(tmp_path: Path, uses: Uses) -> None:
    mine, mark = Uses(tmp_path, "store"), uses.mark()
    answers: list[bool] = []
    claiming = threading.Thread(target=lambda: answers.append(mine.claim(["a"], mark)))
    with uses.removing("a") as free:
        assert free
        claiming.start()
        claiming.join(0.3)
        assert answers == []
    claiming.join(10)
    assert answers == [False]


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
def test_a_claim_on_what_was_looked_up_during_a_removal_is_refused(tmp_path: Path, uses: Uses, fails: bool) -> None:
    mine = Uses(tmp_path, "store")
    with suppress(OSError), uses.removing("a") as free:
        assert free
        mark = mine.mark()
        if fails:
            raise OSError
    assert not mine.claim(["a"], mark), "it was still there, and is gone now"
    assert mine.claim(["a"], mine.mark())


def test_stores_do_not_know_of_each_other(tmp_path: Path, uses: Uses) -> None:
    other = Uses(tmp_path, "other")
    other.claim(["a"])
    other.touch("a", "x")
    assert removes(uses, "a")
    assert uses.last_uses() == {}


def test_a_use_is_a_time_and_says_of_what(uses: Uses, tmp_path: Path) -> None:
    uses.touch("a", "py3.13, /p/test_a.py:3")
    aged(tmp_path, "a", 1000)
    before = uses.last_uses()["a"]
    assert before.image == "py3.13, /p/test_a.py:3"
    assert time.time() - before.time == pytest.approx(1000, abs=60)
    uses.touch("a", "py3.13, /p/test_a.py:3")
    assert time.time() - uses.last_uses()["a"].time < 60


def test_what_is_used_is_used_until_the_end_of_the_run(uses: Uses, tmp_path: Path) -> None:
    uses.touch("a", "x")
    aged(tmp_path, "a", 1000)
    uses.release()
    assert time.time() - uses.last_uses()["a"].time < 60


@pytest.mark.parametrize("parent_age", [None, 2000, 10])
def test_a_removed_layer_leaves_its_last_use_to_its_parent(
    uses: Uses, tmp_path: Path, parent_age: float | None
) -> None:
    uses.touch("top", "x")
    aged(tmp_path, "top", 1000)
    if parent_age is not None:
        uses.touch("below", "y")
        aged(tmp_path, "below", parent_age)
    uses.forget("top", "below")
    assert set(uses.last_uses()) == {"below"}
    expected = min(1000, parent_age or 1000)
    assert time.time() - uses.last_uses()["below"].time == pytest.approx(expected, abs=5)


def test_a_removed_base_leaves_nothing(uses: Uses) -> None:
    uses.touch("base", "x")
    uses.forget("base", "")
    uses.forget("base", "")
    assert uses.last_uses() == {}


@pytest.mark.parametrize("identity", ["AB:CD", "memory-1", "/home/x/.cache", "ä" * 300, "a" * 300, "..", ""])
def test_any_identity_names_one_folder(tmp_path: Path, identity: str) -> None:
    name = folder_name(identity)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(name) <= 64


def test_identities_that_differ_late_have_folders_of_their_own() -> None:
    assert folder_name("/" + "a" * 100 + "b") != folder_name("/" + "a" * 100 + "c")

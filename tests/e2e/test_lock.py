"""The lockfile: what it pins is what is installed, until somebody upgrades it."""

from __future__ import annotations

import hashlib

import pytest
from bases import OwnBase
from engines import EngineUnderTest, on_one_engine
from locking import Locking
from packages import PackageIndex, debian_package

TOOLS = ["pip_install", "uv_pip_install"]

CHANGED = (
    "The index serves other bytes than the lockfile recorded. Do not trust it blindly; if the change is expected, "
    "update the lock: --image-lock-upgrade."
)
GONE = "A locked version is no longer in the package index. Update the lock: --image-lock-upgrade."


@pytest.mark.parametrize("tool", TOOLS)
def test_the_locked_versions_are_installed_until_an_upgrade(locking: Locking, index: PackageIndex, tool: str) -> None:
    index.publish("demo", "1.0", requires=["helps"])
    index.publish("helps", "1.0")
    locking.define(f'{tool}("demo")')
    assert locking.installed("demo", "helps") == {"demo": "1.0", "helps": "1.0"}
    locked = locking.lockfile

    index.publish("demo", "1.1", requires=["helps"])
    index.publish("helps", "1.1")
    locking.forget()
    assert locking.installed("demo", "helps", flags=("--image-locked",)) == {"demo": "1.0", "helps": "1.0"}
    assert locking.lockfile == locked

    assert locking.installed("demo", "helps", flags=("--image-lock-upgrade=demo",)) == {"demo": "1.1", "helps": "1.0"}
    assert _changed(locked, locking.lockfile) == {"version", "hashes"}

    assert locking.installed("demo", "helps", flags=("--image-lock-upgrade",)) == {"demo": "1.1", "helps": "1.1"}


def _changed(before: str, after: str) -> set[str]:
    """Return the keys whose lines differ between two lockfiles of the same shape."""
    lines = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    return {new.split(" =")[0].strip() if " =" in new else "hashes" for _, new in lines}


EDITS: dict[str, dict[str, str]] = {
    '"demo", "more"': {"demo": "1.0", "helps": "1.0", "more": "3.0"},
    '"demo<2"': {"demo": "1.0", "helps": "1.0"},
    '"demo>1"': {"demo": "1.1", "helps": "1.0"},
    '"demo>1", "more"': {"demo": "1.1", "helps": "1.0", "more": "3.0"},
    '"helps"': {"helps": "1.0"},
    # What this needs leaves no room for the pin of `helps`.
    '"demo", "demanding"': {"demo": "1.1", "helps": "1.1", "demanding": "1.0"},
}


@pytest.mark.parametrize("tool", TOOLS)
@on_one_engine()
def test_an_edited_request_keeps_the_pins_that_still_fit(locking: Locking, index: PackageIndex, tool: str) -> None:
    index.publish("demo", "1.0", requires=["helps"])
    index.publish("helps", "1.0")
    locking.define(f'{tool}("demo")')
    assert locking.pinned() == {"demo": "1.0", "helps": "1.0"}
    locked = locking.lockfile
    index.publish("demo", "1.1", requires=["helps"])
    index.publish("helps", "1.1")
    index.publish("more", "3.0")
    index.publish("demanding", "1.0", requires=["helps>1"])

    found = {}
    for packages in EDITS:
        (locking.project.path / "imagebuild.lock").write_text(locked)
        locking.define(f"{tool}({packages})")
        found[packages] = locking.pinned()

    assert found == EDITS


@pytest.mark.parametrize("tool", TOOLS)
def test_other_bytes_under_a_locked_version_are_refused_with_advice(
    locking: Locking, index: PackageIndex, tool: str
) -> None:
    index.publish("demo", "1.0")
    locking.define(f'{tool}("demo")')
    locking.installed("demo")
    locked = locking.lockfile

    index.publish("demo", "1.0", content="evil")
    locking.forget()
    result = locking.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f'*{tool}("demo") failed', f"*{CHANGED}"])
    assert locking.lockfile == locked


@pytest.mark.parametrize("tool", TOOLS)
@on_one_engine()
def test_a_locked_version_that_the_index_dropped_is_refused_with_advice(
    locking: Locking, index: PackageIndex, tool: str
) -> None:
    index.publish("demo", "1.0")
    locking.define(f'{tool}("demo")')
    locking.installed("demo")

    index.withdraw("demo", "1.0")
    index.publish("demo", "1.1")
    locking.forget()
    result = locking.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f'*{tool}("demo") failed', f"*{GONE}"])


def test_a_debian_package_is_pinned_by_version_and_hash(locking: Locking, index: PackageIndex) -> None:
    index.publish_debian("demo", "1.0-1")
    source = f"deb [trusted=yes] http://{index.address}/debian ./"
    command = f"rm -r /etc/apt/sources.list.d; echo '{source}' > /etc/apt/sources.list"
    locking.define(f'run_commands("{command}").apt_install("demo")')
    assert locking.run().ret == 0
    sha256 = hashlib.sha256(debian_package("demo", "1.0-1")[1]).hexdigest()
    assert [line.strip() for line in locking.lockfile.splitlines()[-6:]] == [
        'name = "demo"',
        'version = "1.0-1"',
        'architecture = "all"',
        "hashes = [",
        f'"sha256:{sha256}",',
        "]",
    ]

    locking.forget()
    index.publish_debian("demo", "1.0-1", content="evil")
    other_bytes = locking.run()
    index.publish_debian("demo", "1.0-2")
    gone = locking.run()
    upgraded = locking.run("--image-lock-upgrade=demo")

    other_bytes.assert_outcomes(failed=1)
    other_bytes.stdout.fnmatch_lines(
        [
            '*apt_install("demo") failed',
            f"*imagebuild: demo=1.0-1 in the index has not the locked sha256 {sha256}",
            f"*{CHANGED}",
        ]
    )
    gone.assert_outcomes(failed=1)
    gone.stdout.fnmatch_lines(['*apt_install("demo") failed', "*imagebuild: the index has no demo=1.0-1", f"*{GONE}"])
    upgraded.assert_outcomes(passed=1)
    assert 'version = "1.0-2"' in locking.lockfile


def test_a_locked_run_names_the_call_that_has_no_record_and_what_to_do(
    locking: Locking, index: PackageIndex, base: OwnBase, engine: EngineUnderTest
) -> None:
    index.publish("demo", "1.0")
    locking.define('pip_install("demo")')
    place = f"{locking.project.path}/test_a_locked_run_names_the_call_that_has_no_record_and_what_to_do.py"
    advice = (
        "and --image-locked forbids to resolve it. Run once without --image-locked (or run `imagebuild lock`) and "
        "commit the lockfile."
    )

    with engine.events() as events:
        without = locking.run("--image-locked")
        locking.define("run_commands(': nothing to pin')")
        locking.installed()
        built = len(events.commits())
        locking.define('pip_install("demo")')
        changed = locking.run("--image-locked")
        assert len(events.commits()) == built

    assert f'has no record for from_registry("{base.reference}") at {place}:3 on linux/' in without.stdout.str()
    assert f'has no record for pip_install("demo") at {place}:4 on linux/' in changed.stdout.str()
    assert advice in without.stdout.str()
    assert advice in changed.stdout.str()


@on_one_engine()
def test_an_upgrade_that_names_nothing_which_is_locked_says_what_is(locking: Locking, index: PackageIndex) -> None:
    index.publish("demo", "1.0")
    locking.define('pip_install("demo")')
    locking.installed("demo")

    result = locking.run("--image-lock-upgrade=dmeo")

    result.assert_outcomes(failed=1)
    sentence = (
        "imagebuild.lock pins no package or base image named dmeo, so it cannot be upgraded. Name one that it pins, or "
        "use --image-lock-upgrade alone for all."
    )
    result.stdout.fnmatch_lines([f"*{sentence}"])


def test_a_base_whose_tag_moved_stays_until_an_upgrade(locking: Locking, base: OwnBase) -> None:
    first = base.publish(label="first")
    locking.define("run_commands(':')")
    locking.run().assert_outcomes(passed=1)
    second = base.publish(label="second")
    locking.forget()
    locking.run().assert_outcomes(passed=1)
    assert first in locking.lockfile

    locking.run(f"--image-lock-upgrade={base.reference}").assert_outcomes(passed=1)
    assert second in locking.lockfile
    assert first not in locking.lockfile

"""How long an archive that was made for a reference stands for it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pytest_imagebuild.engines import bootstrap
from pytest_imagebuild.engines.archives import Archives

DAY = 86400


@pytest.mark.parametrize(("age", "made_again"), [(60, False), (2 * DAY, True), (-400 * DAY, True)])
def test_an_archive_is_fresh_for_a_day_and_not_when_it_is_from_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, made_again: bool
) -> None:
    made: list[str] = []

    def make(reference: str, *, target: Path, **_: object) -> None:
        made.append(reference)
        target.write_text(f"archive {len(made)}")

    monkeypatch.setattr(bootstrap, "bootstrap", make)
    archives = Archives(tmp_path, "amd64")
    archives.make("debian:trixie", print)
    (record,) = (tmp_path / "bases").glob("*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "made": time.time() - age}))

    archives.make("debian:trixie", print)

    assert len(made) == 1 + made_again

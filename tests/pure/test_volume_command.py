"""`imagebuild volume`, on an engine in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles import options_in

from pytest_imagebuild.cli import main
from pytest_imagebuild.engines.memory import MemoryEngine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryEngine:
    """The engine that the command opens, in a folder whose pytest has no settings."""
    engine = MemoryEngine()
    monkeypatch.setattr("pytest_imagebuild.cli.volume.options_of", lambda _: options_in(tmp_path))
    monkeypatch.setattr("pytest_imagebuild.cli.configured.choose_engine", lambda *_, **__: engine)
    return engine


def test_a_volume_is_made_once(engine: MemoryEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["volume", "create", "models"]) for _ in range(2)] == [0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "made models on the memory engine",
        "models is there already on the memory engine; it stays as it is",
    ]
    assert [volume.name for volume in engine.volumes()] == ["models"]


def test_ls_lists_volumes_and_says_which_are_in_use(engine: MemoryEngine, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("models", "b"):
        engine.make_volume(name)
    engine.make_volume("1", ephemeral=True)
    engine.mounted.add("models")
    assert main(["volume", "ls"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "VOLUME  SIZE  AGE",
        "b        0 B  0 s",
        "models   0 B  0 s  in use",
        "2 volumes on the memory engine, 0 B",
    ]


def test_ls_of_no_volumes_says_so(engine: MemoryEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["volume", "ls"]) == 0
    assert capsys.readouterr().out == "0 volumes on the memory engine, 0 B\n"


def test_ls_prints_json(engine: MemoryEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.make_volume("a")
    assert main(["volume", "ls", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert {**found, "created": 0} == {"name": "a", "size": 0, "created": 0, "in_use": False}


def test_rm_removes_what_it_can_and_says_what_it_cannot(
    engine: MemoryEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        engine.make_volume(name)
    engine.mounted.add("a")
    assert main(["volume", "rm", "a", "b", "c"]) == 1
    said = capsys.readouterr()
    assert said.out == "removed b, freed 0 B\n"
    assert said.err.splitlines() == [
        "imagebuild: the volume 'a' is in use: a container has it mounted. Remove it when that has ended",
        "imagebuild: there is no volume 'c' on the memory engine; see `imagebuild volume ls`",
    ]
    assert [volume.name for volume in engine.volumes()] == ["a"]
    engine.mounted.clear()
    assert main(["volume", "rm", "a"]) == 0


@pytest.mark.parametrize("command", ["create", "rm"])
def test_what_is_no_name_is_refused(engine: MemoryEngine, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["volume", command, "../x"])
    assert caught.value.code == 2
    assert "the name of a volume has 1 to 64 characters, each a letter, a digit, '-', '_' or '.', got '../x'" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert engine.calls == []

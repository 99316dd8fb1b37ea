"""The layer store of the embedded engine, while other processes change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_imagebuild.engines.embedded.files import OwnFiles
from pytest_imagebuild.engines.embedded.store import Record, Store
from pytest_imagebuild.engines.layers import LayerLabels
from pytest_imagebuild.engines.owner import Owner


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(run="run", cache_dir=tmp_path)
    yield owner
    owner.release()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", OwnFiles(keep_owners=False), downloads=tmp_path / "downloads")
    store.prepare()
    return store


def keep(store: Store, owner: Owner, key: str, namespace: str = "") -> Record:
    labels = LayerLabels(key=key, parent="", generation="", run="run", namespace=namespace)
    return store.keep(labels, (), None, {}, owner)


def test_a_layer_is_kept_while_the_last_one_of_the_cache_is_removed(
    store: Store, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = keep(store, owner, "last")
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        store.discard(last, ())
        link(source, target)

    monkeypatch.setattr("pytest_imagebuild.engines.embedded.store.os.link", overtaken)
    kept = keep(store, owner, "new")

    assert store.find("new", "") == kept
    assert store.find("last", "") is None


def test_nothing_is_left_of_a_namespace_whose_layers_are_gone(store: Store, owner: Owner) -> None:
    keep(store, owner, "kept")
    store.discard(keep(store, owner, "thrown-away", "run"), ())
    assert store.namespaces() == []
    assert store.find("kept", "") is not None

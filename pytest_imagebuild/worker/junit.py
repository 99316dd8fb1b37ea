"""What tests write into the JUnit file by themselves, sent to the controller, which has the file.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.junitxml import xml_key

from pytest_imagebuild.worker.channel import Wire

__all__ = ["JUnitProperties"]


class JUnitProperties:
    """Stands in for the writer of the JUnit file: for `record_testsuite_property`, `record_xml_attribute`, plugins."""

    def __init__(self, wire: Wire, config: pytest.Config) -> None:
        self._wire = wire
        self.family = config.getini("junit_family")
        config.stash[xml_key] = self  # type: ignore[misc]
        # pytest unregisters at its end what it finds there.
        config.pluginmanager.register(self)

    def add_global_property(self, name: str, value: object) -> None:
        """Send a property of the whole run."""
        self._wire.send({"type": "junit", "item": None, "name": str(name), "value": str(value)})

    def node_reporter(self, report: Any) -> _OfItem:
        """Return what takes the attributes of one test, given by its report or its node id."""
        return _OfItem(self._wire, getattr(report, "nodeid", report))


class _OfItem:
    def __init__(self, wire: Wire, item: str) -> None:
        self._wire = wire
        self._item = item

    def add_attribute(self, name: str, value: object) -> None:
        self._wire.send({"type": "junit", "item": self._item, "name": str(name), "value": str(value)})

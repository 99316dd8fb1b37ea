"""A terminal reporter that reports nothing. Runs in the container: imports the standard library and pytest only."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["QuietReporter"]

_NAME = "terminalreporter"


class QuietReporter:
    """Stands in for pytest's reporter, without its hooks: the controller reports.

    Plugins and conftest files ask for the reporter by its name and write with it, and pytest takes from it
    how to highlight a comparison; all that goes on to the real one.
    """

    def __init__(self, reporter: object) -> None:
        self.reporter = reporter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reporter, name)

    @classmethod
    def take_over(cls, config: pytest.Config) -> None:
        """Put one in the place of the reporter that is registered, if there is one."""
        manager = config.pluginmanager
        reporter = manager.get_plugin(_NAME)
        if reporter is not None:
            manager.unregister(reporter)
            manager.register(cls(reporter), _NAME)

"""What plugins of the image have to say to the user of the whole run: lines of the header, parts of the summary.

Runs in the container: imports the standard library and pytest only.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from types import ModuleType
from typing import Any

import pytest
from _pytest.config import create_terminal_writer

__all__ = ["Words", "known_plugins"]

_OURS = ("_pytest.", "pytest_imagebuild.")


def known_plugins(config: pytest.Config) -> list[str]:
    """Return names by which a plugin is known on either side: its module, or the path of a conftest file."""
    return sorted({name for plugin in config.pluginmanager.get_plugins() if (name := _name(plugin))})


class Words:
    """Asks the plugins that the controller does not have. `width` is that of its terminal, in characters."""

    def __init__(self, config: pytest.Config, width: int) -> None:
        self._config = config
        self._width = width

    def header(self, known: Collection[str]) -> list[str]:
        """Return what they put into the header."""
        hook = self._asked("pytest_report_header", known)
        start = self._config.invocation_params.dir
        named = {"config": self._config, "start_path": start}
        if hook.spec is not None and "startdir" in hook.spec.argnames:
            # Older pytests have it twice, and fill in one of them only where the hook is called as ever.
            from _pytest.compat import legacy_path  # type: ignore[attr-defined,unused-ignore]  # noqa: PLC0415

            named["startdir"] = legacy_path(start)
        lines = hook(**named)
        parts = [str(line) for part in reversed(lines) for line in ([part] if isinstance(part, str) else part)]
        return [line for part in parts for line in part.splitlines()]

    def note(self, report: pytest.TestReport) -> None:
        """Sort a report into the statistics that a summary is made of."""
        reporter = self._reporter()
        if reporter is not None:
            category = self._config.hook.pytest_report_teststatus(report=report, config=self._config)[0]
            reporter.stats.setdefault(category, []).append(report)

    def summary(self, known: Collection[str], status: int) -> str:
        """Return what they put at the end."""
        reporter, text = self._reporter(), io.StringIO()
        if reporter is None:
            return ""
        writer = create_terminal_writer(self._config, text)
        writer.fullwidth = self._width
        before, reporter._tw = reporter._tw, writer  # noqa: SLF001 - all that writes goes through it
        try:
            hook = self._asked("pytest_terminal_summary", known)
            hook(terminalreporter=reporter, exitstatus=status, config=self._config)
        finally:
            reporter._tw = before  # noqa: SLF001
        return text.getvalue()

    def _reporter(self) -> Any:
        quiet = self._config.pluginmanager.get_plugin("terminalreporter")
        return getattr(quiet, "reporter", None)

    def _asked(self, hook: str, known: Collection[str]) -> Any:
        manager = self._config.pluginmanager
        others = [plugin for plugin in manager.get_plugins() if _is_ours(_name(plugin)) or _name(plugin) in known]
        return manager.subset_hook_caller(hook, others)


def _name(plugin: object) -> str:
    if not isinstance(plugin, ModuleType):
        return type(plugin).__module__
    file = getattr(plugin, "__file__", None) or ""
    return file if file.endswith("conftest.py") else plugin.__name__


def _is_ours(name: str) -> bool:
    return name.startswith(_OURS)

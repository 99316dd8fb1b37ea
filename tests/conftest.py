"""What holds for all rings of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Let no two tests at once run on one engine; those that need none go together by file."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByEngine(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByEngine(config, log)


def _scope(nodeid: str) -> str:
    file, _, test = nodeid.partition("::")
    # Parameters may name files: a word is one between the hyphens.
    parameters = f"-{test.partition('[')[2].rstrip(']')}-"
    if "-embedded-" in parameters or "-docker-current-" in parameters:
        # Together they take about as long as the other Docker; and what is compared is found out on both.
        return "embedded and current"
    compares = file.endswith("test_same_everywhere.py")
    return "docker" if "-docker-" in parameters or "docker" in file or compares else file

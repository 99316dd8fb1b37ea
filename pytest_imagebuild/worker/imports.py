"""What an `imports()` block has swallowed, told where a name of it is missed, on the host and in containers.

Runs in the container too: imports the standard library and pytest only.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["pytest_runtest_makereport"]

_MODULE = "pytest_imagebuild.image.imports"
_TITLE = "imports() blocks"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    """Add to the failure of a test that misses a name what kept the imports of its file from giving it one."""
    outcome = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, NameError) and not isinstance(error, UnboundLocalError):
        told = _swallowed_in(str(item.path))
        if told:
            outcome.get_result().sections.append((_TITLE, "\n".join(told)))


def _swallowed_in(file: str) -> list[str]:
    # A process that has not loaded it has swallowed nothing.
    module = sys.modules.get(_MODULE)
    found = module.swallowed() if module is not None else ()
    return [str(one) for one in found if one.where is not None and one.where.file == file]

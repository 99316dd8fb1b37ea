"""What every installer can do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from pytest_imagebuild.lockfile import Pin

__all__ = ["CHANGED", "GONE", "Tool", "advice"]

GONE = 91
CHANGED = 92
ADVICE = {
    GONE: "A locked version is no longer in the package index. Update the lock: --image-lock-upgrade.",
    CHANGED: "The index serves other bytes than the lockfile recorded. Do not trust it blindly; if the change is "
    "expected, update the lock: --image-lock-upgrade.",
}
"""What to do about the exit codes that our own scripts use."""

_SAID = {
    CHANGED: ("DO NOT MATCH THE HASHES", "Hash mismatch for", "doesn't match expectation"),
    GONE: ("No matching distribution found for", "there is no version of"),
}
"""What pip, uv and micromamba say when a pin cannot be installed."""

_NO_ANSWER = re.compile(r"Could not fetch URL (?!.* 404 )")
"""What pip says of an index that did not tell what it has; it goes on as if that were nothing."""

_ADVICE_ON_INDEX = "The package index did not answer as it should. Try again, or look at the settings of the index."


class Tool(Protocol):
    """An installer, bound to one request.

    `resolve` runs in a throw-away container of the parent and changes nothing; `script` installs the pins of the
    lockfile, with no resolution. Both are `/bin/sh` scripts; `parse` reads what the resolving script printed.
    """

    @property
    def name(self) -> str:
        """The name in the lockfile."""

    @property
    def request(self) -> tuple[str, ...]:
        """What the definition asks for, as the lockfile records it: without passwords."""

    def resolve(self, *, constrained: bool, asked: Sequence[str] = ()) -> str:
        """Return the script that prints what would be installed; `constrained` by the file `CONSTRAINTS`.

        `asked` are the texts that ask for packages, with the logins of their addresses.
        """

    def parse(self, printed: str) -> tuple[Pin, ...]:
        """Read the pins from what the resolving script printed."""

    def script(self, pins: Sequence[Pin]) -> str:
        """Return the script that installs exactly `pins`; for Python packages they lie in the file `PINS`."""


def advice(exit_code: int, output: str) -> str:
    """Return what to do about an installation of pins that failed; empty where there is nothing special to do."""
    if _NO_ANSWER.search(output):
        return _ADVICE_ON_INDEX
    said = (code for code, texts in _SAID.items() if any(text in output for text in texts))
    return ADVICE.get(exit_code) or ADVICE.get(next(said, 0), "")

"""How pip and uv look for packages."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

__all__ = ["PipOptions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PipOptions:
    """How pip and uv look for packages. `extra_options` is shell text, taken as it is."""

    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""

    def index_flags(self) -> list[str]:
        """Give the options that say where packages are looked for, as shell text."""
        flags = {
            "--find-links": self.find_links,
            "--index-url": self.index_url,
            "--extra-index-url": self.extra_index_url,
        }
        return [f"{flag} {shlex.quote(value)}" for flag, value in flags.items() if value is not None]

"""What an inspection of this machine found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is the command or step that helps where it is not `good`.

    What is not `needed` may be missing: something that is less important goes without it.
    """

    name: str
    good: bool
    found: str
    advice: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "ok  " if self.good else "FAIL" if self.needed else "note"
        text = f"{mark}  {self.name}: {self.found}"
        return text if self.good or not self.advice else f"{text}\n      {self.advice}"

"""The package of a project that uv manages."""

from __future__ import annotations

import humanize


def sentence(visitors: int) -> str:
    """Return a sentence for the front page."""
    return f"{humanize.intcomma(visitors)} visitors are expected"

"""`imagebuild prune`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from pytest_imagebuild.build.prune import Pruned, PruneOptions
from pytest_imagebuild.build.prune import prune as prune_store
from pytest_imagebuild.cli.configured import opened, options_of
from pytest_imagebuild.cli.display import say
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.keeping.kept import let_go
from pytest_imagebuild.units import age_text, size_text

__all__ = ["prune"]


def prune(parsed: argparse.Namespace) -> int:
    """Remove what may go, and say what went."""
    options = options_of(parsed)
    wanted = PruneOptions(older_than=parsed.older_than, keep_size=parsed.keep_size, dry_run=parsed.dry_run)
    done: list[Pruned] = []
    with opened(options) as engine:
        if not parsed.dry_run and (ended := let_go(options.cache_dir, engine)):
            say(f"ended: {ended} container{'s' if ended > 1 else ''} that waited for a run")
        uses = Uses(options.cache_dir, engine.capabilities().identity)
        for pruned in prune_store(engine, uses, options.cache_dir, wanted):
            done.append(pruned)
            if pruned.freed is not None:
                say(_line("would remove" if parsed.dry_run else "removed", pruned))
            elif parsed.verbose:
                say(_line("in use, stays", pruned))
        left = sum(layer.own_size for layer in engine.stored())
    if parsed.dry_run:
        left -= sum(pruned.freed or 0 for pruned in done if pruned.is_layer)
    say(_summary(done, left, dry_run=parsed.dry_run))
    return 0


def _summary(done: Sequence[Pruned], left: int, *, dry_run: bool) -> str:
    gone = [pruned.freed for pruned in done if pruned.freed is not None]
    verb = "would free" if dry_run else "freed"
    stay = f", {len(done) - len(gone)} are in use and stay" if len(gone) < len(done) else ""
    return f"{verb} {size_text(sum(gone))}: removed {len(gone)}{stay}; {size_text(left)} of layers are left"


def _line(verb: str, pruned: Pruned) -> str:
    used = f", last used {age_text(time.time() - pruned.last_use)} ago" if pruned.last_use is not None else ""
    size = f"{size_text(pruned.freed)}, " if pruned.freed is not None else ""
    return f"{verb}: {size}{pruned.what}{used}"

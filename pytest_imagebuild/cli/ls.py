"""`imagebuild ls`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence

from pytest_imagebuild.build.inventory import KeptLayer, downloads, inventory
from pytest_imagebuild.build.names import Names
from pytest_imagebuild.cli.configured import opened, options_of
from pytest_imagebuild.cli.display import say
from pytest_imagebuild.engines.uses import Uses
from pytest_imagebuild.units import age_text, size_text

__all__ = ["ls"]

_HEAD = ("LAYER", "OWN", "WITH BELOW", "AGE", "LAST USE", "WHAT")


def ls(parsed: argparse.Namespace) -> int:
    """List the layers, the last used first."""
    options = options_of(parsed)
    with opened(options) as engine:
        uses = Uses(options.cache_dir, engine.capabilities().identity)
        layers = inventory(engine.stored(), uses.last_uses())[::-1]
        names = Names(options.cache_dir, engine.capabilities().identity)
        named = {layer.key: names.of(layer.key) for layer in layers}
    if parsed.json:
        say(json.dumps([_to_dict(layer, named[layer.key]) for layer in layers], indent=2))
        return 0
    for row in _table(layers, named, in_full=parsed.verbose):
        say(row)
    total = size_text(sum(layer.stored.own_size for layer in layers))
    files = downloads(options.cache_dir)
    more = f"; downloads: {size_text(sum(file.size for file in files))}" if files else ""
    say(f"{len(layers)} layers, {total}{more}")
    return 0


def _table(layers: Sequence[KeptLayer], named: Mapping[str, Sequence[str]], *, in_full: bool) -> list[str]:
    now = time.time()
    rows = [_HEAD, *(_row(layer, named[layer.key], now, in_full=in_full) for layer in layers)] if layers else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for key, *figures, what in rows:
        aligned = (figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True))
        lines.append("  ".join([key.ljust(widths[0]), *aligned, what]))
    return lines


def _row(layer: KeptLayer, names: Sequence[str], now: float, *, in_full: bool) -> tuple[str, str, str, str, str, str]:
    stored, built = layer.stored, layer.built
    used = "in use" if stored.in_use else age_text(now - layer.last_use)
    notes = [*(["published as " + ", ".join(names)] if names else []), *([layer.image] if layer.image else [])]
    what = "  ".join([built.labels.step, *(f"[{note}]" for note in notes)])
    key = layer.key if in_full else layer.key[:12]
    return key, size_text(stored.own_size), size_text(built.size), age_text(now - built.created), used, what


def _to_dict(layer: KeptLayer, names: Sequence[str]) -> dict[str, object]:
    stored, built = layer.stored, layer.built
    return {
        "key": layer.key,
        "parent": built.labels.parent,
        "step": built.labels.step,
        "image": layer.image,
        "names": list(names),
        "own_size": stored.own_size,
        "size": built.size,
        "created": built.created,
        "last_use": layer.last_use,
        "in_use": stored.in_use,
        "reference": built.reference,
    }

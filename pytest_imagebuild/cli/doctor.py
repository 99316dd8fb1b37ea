"""`imagebuild doctor`."""

from __future__ import annotations

import argparse

from pytest_imagebuild.cli.configured import options_of
from pytest_imagebuild.cli.display import say
from pytest_imagebuild.dispatch.diagnosis import diagnose

__all__ = ["doctor"]


def doctor(parsed: argparse.Namespace) -> int:
    """Say what each engine finds here; 1 where the engine that tests are told to run on cannot be used."""
    options = options_of(parsed)
    diagnosis = diagnose(options.cache_dir)
    for title, findings in {**diagnosis.engines, "any engine": diagnosis.common}.items():
        say(f"{title}:")
        for finding in findings:
            say("  " + str(finding).replace("\n", "\n  "))
    engine = diagnosis.usable(options.engine)
    if engine is not None:
        say(f"Tests run on the engine {engine}.")
    elif options.engine == "auto":
        say("No engine can be used here. What helps is named above; it is enough for one of them.")
    else:
        say(f"Tests are told to run on the engine {options.engine}, which cannot be used here.")
    return 0 if engine is not None else 1

"""`imagebuild doctor`."""

from __future__ import annotations

import argparse

from pytest_imagebuild.cli.configured import options_of
from pytest_imagebuild.cli.display import say
from pytest_imagebuild.dispatch.diagnosis import diagnose

__all__ = ["doctor"]


def doctor(parsed: argparse.Namespace) -> int:
    """Say what each engine finds here; 1 where none can be used."""
    diagnosis = diagnose(options_of(parsed).cache_dir)
    for title, findings in {**diagnosis.engines, "any engine": diagnosis.common}.items():
        say(f"{title}:")
        for finding in findings:
            say("  " + str(finding).replace("\n", "\n  "))
    if diagnosis.chosen is None:
        say("No engine can be used here: do what helps one of them.")
    else:
        say(f"Tests run on the engine {diagnosis.chosen}, unless --image-engine or IMAGEBUILD_ENGINE names another.")
    return 0 if diagnosis.usable else 1

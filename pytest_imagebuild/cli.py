"""The `imagebuild` command: build, lock, ls, doctor."""

from __future__ import annotations

import argparse
import io
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace

import pytest

from pytest_imagebuild.dispatch.definitions import images_in, load_image
from pytest_imagebuild.dispatch.diagnosis import diagnose
from pytest_imagebuild.dispatch.workspace import Workspace
from pytest_imagebuild.engines.choose import choose_engine
from pytest_imagebuild.engines.protocol import BuiltLayer
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.options import Options, upgrade_names
from pytest_imagebuild.terminal import BuildDisplay, summary_line

__all__ = ["main"]

DAY = 86400
OUTPUT_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 for what failed, 2 for wrong use, 130 after Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (ImageBuildError, pytest.UsageError) as error:
        sys.stderr.write(f"imagebuild: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imagebuild", description="Build and inspect the images of pytest-imagebuild."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build images by name")
    build.add_argument("image", nargs="+", metavar="FILE.py:NAME|MODULE:NAME")
    build.add_argument("--force-build", action="store_true", help="rebuild every layer")
    build.add_argument("--locked", action="store_true", help="fail where the lockfile would have to change")
    build.set_defaults(run=_build)
    lock = commands.add_parser(
        "lock", help="write the lockfile for the images of the tests that pytest collects; drop unused records"
    )
    lock.add_argument("path", nargs="*", help="what pytest collects; with paths, unused records stay")
    how = lock.add_mutually_exclusive_group()
    how.add_argument(
        "--upgrade",
        nargs="?",
        const="",
        metavar="NAME,...",
        help="resolve again: all, or with --upgrade=NAME,... these",
    )
    how.add_argument("--check", action="store_true", help="change nothing; fail where `imagebuild lock` would")
    lock.set_defaults(run=_lock)
    listing = commands.add_parser("ls", help="list built layers")
    listing.set_defaults(run=_list)
    doctor = commands.add_parser("doctor", help="say what this machine can do, and what helps where it cannot")
    doctor.set_defaults(run=_doctor)
    for command in (build, lock, listing):
        command.add_argument("--engine", help="engine (default: as pytest chooses)")
        command.add_argument("-v", "--verbose", action="store_true", help="show reasons and build output")
    return parser


def _build(parsed: argparse.Namespace) -> int:
    images = [load_image(name) for name in parsed.image]
    options = _probe(parsed).options
    options = replace(options, force_build=options.force_build or parsed.force_build, locked=parsed.locked)
    workspace = _open(options, parsed)
    try:
        outcome = workspace.build(images, for_tests=False)
    finally:
        workspace.close()
    for name, image in zip(parsed.image, images, strict=True):
        layer = outcome[image]
        if isinstance(layer, BuiltLayer):
            _say(f"{name}: {layer.reference}")
    tally = workspace.builder.tally
    _say(
        summary_line(
            [
                {
                    "reused": tally.reused,
                    "built": tally.built,
                    "seconds": tally.seconds,
                    "engine": workspace.engine.name,
                }
            ]
        )
    )
    return _show_failures(outcome.values())


def _lock(parsed: argparse.Namespace) -> int:
    probe = _probe(parsed, collect=True)
    upgrade = None if parsed.upgrade is None else upgrade_names(parsed.upgrade)
    options = replace(probe.options, locked=parsed.check, upgrade=upgrade)
    workspace = _open(options, parsed)
    # Only a run over all tests knows what nothing uses any more.
    prune = not parsed.path
    try:
        if parsed.check:
            return _show_stale(options, workspace.stale(probe.images, prune=prune))
        outcome = workspace.lock(probe.images, prune=prune)
    finally:
        workspace.close()
    records = len(workspace.builder.pins.lockfile.layers)
    _say(f"{options.lockfile}: {len(outcome)} images, {records} install layers")
    return _show_failures(filter(None, outcome.values()))


def _list(parsed: argparse.Namespace) -> int:
    options = _probe(parsed).options
    engine = choose_engine(options.engine, run=uuid.uuid4().hex, cache_dir=options.cache_dir)
    try:
        layers = sorted(engine.layers().values(), key=lambda layer: layer.created)
    finally:
        engine.close()
    for layer in layers:
        age = (time.time() - layer.created) / DAY
        _say(f"{layer.labels.key[:12]}  {layer.size / 1e6:8.1f} MB  {age:6.1f} d  {layer.labels.step}")
    _say(f"{len(layers)} layers; each size includes the layers below")
    return 0


def _doctor(parsed: argparse.Namespace) -> int:
    findings = diagnose(_probe(parsed).options.cache_dir)
    for finding in findings:
        _say(str(finding))
    return 0 if all(finding.good for finding in findings if finding.needed) else 1


@dataclass(eq=False)  # pytest keeps plugins in sets
class _Probe:
    """A pytest plugin that notes what a run of pytest in this folder would use."""

    collect: bool
    images: list[Image] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    options: Options = field(init=False)
    _items: list[pytest.Item] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        """Note the options; go on only to collect."""
        self.options = Options.from_config(config)
        return None if self.collect else 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the tests before some are deselected, as by `-m "not slow"` in the ini file."""
        self._items = list(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the images."""
        self.images = images_in(dict.fromkeys([*self._items, *session.items]), session.config)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.failed:
            self.failures.append(report.longreprtext)


def _probe(parsed: argparse.Namespace, *, collect: bool = False) -> _Probe:
    """Let pytest read its configuration here, and collect if told to; raise pytest.UsageError if it cannot."""
    probe = _Probe(collect=collect)
    arguments = ["--collect-only", "-q", *(getattr(parsed, "path", None) or [])]
    if getattr(parsed, "engine", None):
        arguments.append(f"--image-engine={parsed.engine}")
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(arguments, plugins=[probe])
    if not hasattr(probe, "options"):
        raise pytest.UsageError(
            f"pytest cannot be configured here (exit code {int(code)}); run `pytest --co` to see why."
        )
    if probe.failures:
        listed = "\n".join(probe.failures)
        raise pytest.UsageError(f"the tests cannot be collected, so it is not known which images they use:\n{listed}")
    if collect and code != pytest.ExitCode.OK:
        end = "\n".join(said.getvalue().rstrip().splitlines()[-OUTPUT_LINES:])
        raise pytest.UsageError(
            f"pytest collects no tests here (exit code {int(code)}), so it is not known which images they use:\n{end}"
        )
    return probe


def _open(options: Options, parsed: argparse.Namespace) -> Workspace:
    run = uuid.uuid4().hex
    engine = choose_engine(options.engine, run=run, cache_dir=options.cache_dir)
    display = BuildDisplay(stream=sys.stdout, verbose=parsed.verbose)
    return Workspace.open(engine, options, run, display)


def _show_stale(options: Options, stale: Sequence[str]) -> int:
    for line in stale:
        sys.stderr.write(f"imagebuild: {options.lockfile.name}: {line}\n")
    if stale:
        sys.stderr.write("imagebuild: run `imagebuild lock` and commit the lockfile\n")
    else:
        _say(f"{options.lockfile}: up to date")
    return 1 if stale else 0


def _show_failures(outcome: Iterable[BuiltLayer | Exception]) -> int:
    failures = [error for error in outcome if isinstance(error, Exception)]
    for error in failures:
        sys.stderr.write(f"imagebuild: {error}\n")
    return 1 if failures else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")

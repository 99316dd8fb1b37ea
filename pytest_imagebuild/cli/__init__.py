"""The `imagebuild` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_imagebuild.cli.building import build, lock
from pytest_imagebuild.cli.display import complain
from pytest_imagebuild.cli.doctor import doctor
from pytest_imagebuild.cli.exporting import export
from pytest_imagebuild.cli.loading import load
from pytest_imagebuild.cli.ls import ls
from pytest_imagebuild.cli.naming import unpublish
from pytest_imagebuild.cli.prune import prune
from pytest_imagebuild.cli.volume import volume_create, volume_ls, volume_name, volume_rm
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.units import parse_age, parse_size

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 for what failed, 2 for wrong use, 130 after Ctrl-C."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (ImageBuildError, pytest.UsageError) as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imagebuild", description="Build and inspect the images of pytest-imagebuild."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="build images by name"))
    _add_lock(
        commands.add_parser(
            "lock", help="write the lockfile for the images of the tests that pytest collects; drop unused records"
        )
    )
    _add_ls(commands.add_parser("ls", help="list built layers: size, age, last use, and what they are"))
    _add_prune(
        commands.add_parser(
            "prune",
            help="remove layers that are not needed",
            description="Remove what no image can lead to any more: what dead runs left, layers that were replaced, "
            "base images that no layer stands on, downloads that broke off. With options, also what was not used "
            "for long. What a run uses stays.",
        )
    )
    _add_import(
        commands.add_parser(
            "import",
            help="bring images from an archive into the engine",
            description="Bring the images of an archive, as `docker save` writes it or a tar of an OCI layout, into "
            "the engine. Image.from_registry finds them by the printed names.",
        )
    )
    _add_export(
        commands.add_parser(
            "export",
            help="write an image as an OCI archive, or its chain as a Dockerfile",
            description="Build an image and write it as an archive that `docker load` and OCI tools take, or print a "
            "Dockerfile that says what its chain says.",
        )
    )
    _add_volume(commands.add_parser("volume", help="list, make and remove volumes, which no other command removes"))
    _add_unpublish(
        commands.add_parser(
            "unpublish",
            help="take away names that Image.publish gave",
            description="Take away names that Image.publish gave; `imagebuild ls` shows them. The images stay until "
            "`imagebuild prune` finds them unused.",
        )
    )
    _add_doctor(commands.add_parser("doctor", help="say what this machine can do, and what helps where it cannot"))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="+", metavar="FILE.py:NAME|MODULE:NAME")
    parser.add_argument("--force-build", action="store_true", help="rebuild every layer")
    parser.add_argument("--locked", action="store_true", help="fail where the lockfile would have to change")
    _add_common(parser, build, verbose="show reasons and build output")


def _add_lock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="*", help="what pytest collects; with paths, unused records stay")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--upgrade",
        nargs="?",
        const="",
        metavar="NAME,...",
        help="resolve again: all, or with --upgrade=NAME,... these",
    )
    how.add_argument("--check", action="store_true", help="change nothing; fail where `imagebuild lock` would")
    _add_common(parser, lock, verbose="show reasons and build output")


def _add_ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    _add_common(parser, ls, verbose="show keys in full")


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        type=parse_age,
        metavar="14d",
        help="also remove layers and downloads that were last used longer ago",
    )
    parser.add_argument(
        "--keep-size",
        type=parse_size,
        metavar="20GB",
        help="also remove layers, the longest unused first, until they hold no more than this",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go; remove nothing")
    _add_common(parser, prune, verbose="also say what stays because it is in use")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    parser.add_argument("--name", default="", help="name:tag for an image to which the archive gives none")
    _add_common(parser, load, verbose="show what the engine says")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="FILE.py:NAME|MODULE:NAME")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--oci", type=Path, metavar="PATH", help="write the built image to this archive")
    how.add_argument("--dockerfile", action="store_true", help="print a Dockerfile for a build in this folder")
    parser.add_argument("--name", metavar="NAME:TAG", help="what the image is called in the archive (default: NAME)")
    _add_common(parser, export, verbose="show reasons and build output")


def _add_volume(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("ls", help="list volumes: name, size, age, and which are in use")
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    create = commands.add_parser("create", help="make an empty volume")
    create.add_argument("name", type=volume_name, metavar="NAME")
    remove = commands.add_parser("rm", help="remove volumes with all that is in them")
    remove.add_argument("names", nargs="+", type=volume_name, metavar="NAME")
    for one, run in ((listing, volume_ls), (create, volume_create), (remove, volume_rm)):
        one.add_argument("--engine", help="engine (default: as pytest chooses)")
        one.set_defaults(run=run)


def _add_unpublish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME[:TAG]")
    parser.add_argument("--engine", help="engine (default: as pytest chooses)")
    parser.set_defaults(run=unpublish)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", help="engine that must be usable (default: as pytest chooses)")
    parser.set_defaults(run=doctor)


def _add_common(parser: argparse.ArgumentParser, run: object, *, verbose: str) -> None:
    parser.add_argument("--engine", help="engine (default: as pytest chooses)")
    parser.add_argument("-v", "--verbose", action="store_true", help=verbose)
    parser.set_defaults(run=run)

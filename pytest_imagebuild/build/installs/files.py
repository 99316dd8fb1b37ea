"""The files by which pip and uv are told what to install, and what they say of Python packages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_imagebuild.image.wording import with_credentials
from pytest_imagebuild.lockfile import Pin

__all__ = ["CONSTRAINTS", "PINS", "UNHASHED", "constraints_text", "install_pins", "requirement_files"]

PINS = "/dev/shm/imagebuild-pins.txt"  # noqa: S108 - a path inside a container
UNHASHED = "/dev/shm/imagebuild-unhashed.txt"  # noqa: S108 - a path inside a container
CONSTRAINTS = "/dev/shm/imagebuild-constraints.txt"  # noqa: S108 - a path inside a container


def requirement_files(pins: Iterable[Pin], asked: Sequence[str] = ()) -> dict[str, str]:
    """Return the texts of `PINS` and `UNHASHED`: requirement lines with their hashes, and those that have none.

    `asked` are the texts that ask for them: they have the login that the lockfile leaves out of an address.
    """
    texts = {PINS: "", UNHASHED: ""}
    for pin in pins:
        line = f"{pin.name} @ {with_credentials(pin.url, asked)}" if pin.url else f"{pin.name}=={pin.version}"
        hashes = "".join(f" --hash={item}" for item in pin.hashes)
        texts[PINS if pin.hashes else UNHASHED] += f"{line}{hashes}\n"
    return texts


def constraints_text(pins: Iterable[Pin]) -> str:
    """Return a constraints file that keeps the versions of `pins`."""
    return "".join(f"{pin.name}=={pin.version}\n" for pin in pins if not pin.url)


def install_pins(command: str, pins: Sequence[Pin]) -> str:
    """Return the script that installs the pins with `command`, those with hashes verified."""
    hashed = f"{command} --require-hashes -r {PINS} || exit" if any(pin.hashes for pin in pins) else ""
    unhashed = f"{command} -r {UNHASHED} || exit" if any(not pin.hashes for pin in pins) else ""
    return "\n".join(line for line in (hashed, unhashed) if line) or ":"

"""A scientific stack: conda packages, pinned in the lockfile by address and hash."""

from __future__ import annotations

from pytest_imagebuild import Image

image = Image.micromamba("3.13").micromamba_install("mpmath=1.3", channels=["conda-forge"])

with image.imports():
    import mpmath


def zeta(argument: int, digits: int) -> str:
    """Return Riemann's zeta of an argument, in so many significant digits."""
    with mpmath.workdps(digits + 5):
        return str(mpmath.nstr(mpmath.zeta(argument), digits))

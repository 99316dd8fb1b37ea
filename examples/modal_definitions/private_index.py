"""A private index: packages of a company, installed by a login that enters no layer and no lockfile.

`ACME_INDEX` is the address of the index, with the login in it.
"""

from __future__ import annotations

from pytest_imagebuild import Image, Secret

index = Secret.from_local_environ(["ACME_INDEX"])
image = Image.debian_slim(python_version="3.13").pip_install(
    "acme_prices", extra_options='--extra-index-url "$ACME_INDEX"', secrets=[index]
)

with image.imports():
    import acme_prices


def installed() -> str:
    """Return the version of the company's package."""
    return str(acme_prices.version)

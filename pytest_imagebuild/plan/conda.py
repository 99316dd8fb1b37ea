"""What a spec file of micromamba asks for, as far as it must be known before micromamba reads the file itself.

Source of the forms: mamba's documentation, "Specification files": a YAML file (`.yml`, `.yaml`), a list with one spec a
line, a list of addresses below `@EXPLICIT`, and the lockfile of conda-lock (`-lock.yml`). Only two kinds of list are
read of YAML, a block and one in brackets on its line, because the standard library has no reader of the rest.
"""

from __future__ import annotations

import re

from pytest_imagebuild.errors import DefinitionError, SourceLocation

__all__ = ["spec_file_packages"]

_KEY = re.compile(r"(?P<key>[A-Za-z_-]+):(?:\s+(?P<value>.*))?$")
_ITEM = re.compile(r"\s*-\s+(?P<item>.+)$")
_SECTION = re.compile(r"(?P<name>[\w()-]+):(?:\s|$)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def spec_file_packages(text: str, path: str, where: SourceLocation | None) -> tuple[str, ...]:
    """Return the specs of packages in a spec file; none of a file that pins its packages itself.

    Raises DefinitionError for what an image cannot pin: packages of pip, and variables.
    """
    if path.endswith(("-lock.yml", "-lock.yaml")):
        return ()
    if not path.endswith((".yml", ".yaml")):
        lines = [line.strip() for line in text.splitlines()]
        if any(line.startswith("@EXPLICIT") for line in lines):
            return ()
        return tuple(line for line in lines if line and not line.startswith("#"))
    return _environment(text, path, where)


def _environment(text: str, path: str, where: SourceLocation | None) -> tuple[str, ...]:
    found: list[str] = []
    below = ""
    for raw in text.splitlines():
        line = _COMMENT.sub("", raw).rstrip()
        if (top := _KEY.match(line)) is not None:
            below = top["key"]
            if below == "variables":
                raise DefinitionError(
                    f"micromamba_install: {path} has variables:, which would be part of no layer. Set them with "
                    "Image.env.",
                    where=where,
                )
            if below == "dependencies":
                found += _flow(top["value"] or "", path, where)
        elif below == "dependencies" and (item := _ITEM.match(line)) is not None:
            spec = item["item"].strip("'\"")
            section = _SECTION.match(spec)
            if section is None:
                found.append(spec)
            elif section["name"] == "pip":
                raise DefinitionError(
                    f"micromamba_install: {path} has a pip: section, and packages of pip cannot be pinned with those "
                    "of conda. Take it out, and install them in the next step, with pip_install or uv_pip_install.",
                    where=where,
                )
    return tuple(found)


def _flow(value: str, path: str, where: SourceLocation | None) -> list[str]:
    if not value:
        return []
    if not (value.startswith("[") and value.endswith("]")) or "{" in value:
        raise DefinitionError(
            f"micromamba_install: the dependencies of {path} cannot be read. Write each on a line of its own, after a "
            "dash.",
            where=where,
        )
    return [spec for part in value[1:-1].split(",") if (spec := part.strip().strip("'\""))]

"""Names under which built images are published: the rules of the reference (1.1, `from_name`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_imagebuild.image.calls import ChainCall

__all__ = ["image_name"]

_PART = re.compile(r"[a-zA-Z0-9-_.]+")
_MOST = 64
_APP_ID = re.compile(r"ap-[a-zA-Z0-9]{22}")


def image_name(call: ChainCall, name: object, environment_name: object = None) -> str:
    """Give the whole name, with its tag: `team` and `team:latest` are one, as are `dev/team` and environment "dev".

    Raises `DefinitionError` at the call.
    """
    text = call.text("name", name)
    *prefixes, last = text.split("/")
    bare, colon, tag = last.partition(":")
    if len(prefixes) > 2:
        forms = "NAME, ENVIRONMENT/NAME or WORKSPACE/ENVIRONMENT/NAME"
        raise call.error(f"{text!r} has {len(prefixes)} prefixes; write {forms}")
    parts = {"name": bare, **({"tag": tag} if colon else {})}
    for what, part in (*parts.items(), *(("prefix", part) for part in prefixes)):
        _check(call, text, what, part)
    if bare.startswith("im-"):
        raise call.error(f"the name of an image cannot start with 'im-', got {text!r}; a tag can")
    if environment_name is not None:
        environment = call.text("environment_name", environment_name)
        if prefixes:
            message = f"environment_name={environment!r} and the prefix of {text!r} say the same; use one of them"
            raise call.error(message)
        _check(call, environment, "environment_name", environment)
        prefixes = [environment]
    return "/".join([*prefixes, f"{bare}:{tag or 'latest'}"])


def _check(call: ChainCall, text: str, what: str, part: str) -> None:
    if not part:
        raise call.error(f"{text!r} has an empty {what}; write NAME or NAME:TAG")
    if len(part) > _MOST:
        raise call.error(f"the {what} in {text!r} has {len(part)} characters; {_MOST} are the most")
    if not _PART.fullmatch(part):
        raise call.error(f"the {what} {part!r} may have letters, digits, '-', '_' and '.' only; write NAME or NAME:TAG")
    if _APP_ID.fullmatch(part):
        raise call.error(f"the {what} {part!r} looks like the id of an app; choose another one")

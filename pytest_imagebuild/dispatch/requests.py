"""What an item asks for with `@pytest.mark.image(...)`, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest

from pytest_imagebuild.image.chain import Image
from pytest_imagebuild.image.resources import bytes_of, cores_of
from pytest_imagebuild.worker.marker import image_of

if TYPE_CHECKING:
    from pytest_imagebuild.image.gpu import GpuRequest
    from pytest_imagebuild.image.secret import Secret
    from pytest_imagebuild.image.volume import Mounted

__all__ = ["Request", "SessionKey", "plain_nodeid", "request_of", "requests_of"]

ARGUMENTS = ("gpu", "cpu", "memory", "timeout", "env", "secrets", "volumes", "network", "isolation")

Isolation = Literal["session", "test"]
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionKey:
    """What items must have in common to share a session.

    `environment` is sorted pairs, `memory` in bytes, `cpu` in cores, `gpu` the best first, `volumes` by sorted paths.
    `held` are the values that the secrets themselves hold: two that are equal can differ in them. Items of the
    isolation `test` have a session each. With `collects`, a folder and a label, the worker itself says
    what the items of that folder are.
    """

    image: Image
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    held: tuple[tuple[tuple[str, str], ...], ...] = field(default=(), repr=False)
    network: bool = True
    memory: int | None = None
    cpu: float | None = None
    isolation: Isolation = "session"
    volumes: Mounted = ()
    gpu: tuple[GpuRequest, ...] = ()
    collects: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One item's wish. `timeout` is in seconds, for set-up, call and tear-down together; None means none."""

    session: SessionKey
    timeout: float | None


def request_of(item: pytest.Item) -> Request | None:
    """Return what `item` asks for; None for an item that runs on the host. Raises pytest.UsageError."""
    given = getattr(item, "request", None)
    if isinstance(given, Request):
        return given
    marker = item.get_closest_marker("image")
    if marker is None:
        return None
    _check_names(item, marker)
    image = image_of(item)
    if not isinstance(image, Image):
        found = "nothing" if not marker.args else f"{type(image).__name__} {image!r}"
        raise _usage(item, f"it takes an Image, found {found}. Write @pytest.mark.image(Image.debian_slim())")
    secrets = _secrets(item, marker.kwargs)
    return Request(
        session=SessionKey(
            image=image,
            environment=_environment(item, marker.kwargs),
            secrets=secrets,
            held=tuple(secret.held for secret in secrets),
            network=_network(item, marker.kwargs),
            memory=_resource(item, bytes_of, marker.kwargs.get("memory")),
            cpu=_resource(item, cores_of, marker.kwargs.get("cpu")),
            isolation=_isolation(item, marker.kwargs),
            volumes=_volumes(item, marker.kwargs),
            gpu=_gpu(item, marker.kwargs.get("gpu")),
        ),
        timeout=_timeout(item, marker.kwargs),
    )


def requests_of(items: Iterable[pytest.Item]) -> dict[pytest.Item, Request]:
    """Return what items ask for, without those that run on the host. Equal requests are one.

    Raises pytest.UsageError.
    """
    known: dict[Request, Request] = {}
    return {item: known.setdefault(request, request) for item in items if (request := request_of(item))}


def plain_nodeid(item: pytest.Item) -> str:
    """Return the node id that an item has inside.

    It is what the collection gave: under `--dist=loadgroup` xdist's workers append the group. A stand-in knows it.
    """
    if isinstance(inside := getattr(item, "inside", None), str):
        return inside
    if not item.config.getoption("loadgroup", False):
        return item.nodeid
    names = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers("xdist_group")
    }
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(names))}") if names else item.nodeid


def _check_names(item: pytest.Item, marker: pytest.Mark) -> None:
    for name in marker.kwargs:
        if name not in ARGUMENTS:
            raise _usage(item, f"unknown argument {name!r}; it knows {', '.join(ARGUMENTS)}")
    for image in marker.args:
        if not isinstance(image, Image):
            raise _usage(item, f"it takes Images, found {type(image).__name__} {image!r}")


def _environment(item: pytest.Item, arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = arguments.get("env")
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise _usage(item, f"env takes a dict of strings, found {type(value).__name__}")
    wrong = [name for name, text in value.items() if not isinstance(name, str) or not isinstance(text, str)]
    if wrong:
        raise _usage(item, f"env takes a dict of strings; these are not: {wrong!r}")
    return tuple(sorted(value.items()))


def _secrets(item: pytest.Item, arguments: Mapping[str, Any]) -> tuple[Secret, ...]:
    value = arguments.get("secrets")
    if value is None:
        return ()
    from pytest_imagebuild.image.secret import Secret  # noqa: PLC0415 - few items have any

    # What is found is not shown: who passes a text here, passes the secret itself.
    rule = "secrets takes a list of Secret instances"
    if not isinstance(value, (list, tuple)):
        raise _usage(item, f"{rule}, found {type(value).__name__}")
    for secret in value:
        if not isinstance(secret, Secret):
            raise _usage(item, f"{rule}, found {type(secret).__name__} in it")
    return tuple(value)


def _network(item: pytest.Item, arguments: Mapping[str, Any]) -> bool:
    value = arguments.get("network", True)
    if not isinstance(value, bool):
        raise _usage(item, f"network takes True or False, found {value!r}")
    return value


def _resource(item: pytest.Item, read: Callable[[object], _Value], value: object) -> _Value:
    try:
        return read(value)
    except ValueError as error:
        raise _usage(item, str(error)) from None


def _gpu(item: pytest.Item, value: object) -> tuple[GpuRequest, ...]:
    if value is None:
        return ()
    from pytest_imagebuild.image.gpu import read_gpus  # noqa: PLC0415 - few items ask for any

    try:
        return read_gpus(value, fallbacks=True)
    except ValueError as error:
        raise _usage(item, str(error).removesuffix(".")) from None


def _isolation(item: pytest.Item, arguments: Mapping[str, Any]) -> Isolation:
    match arguments.get("isolation", "session"):
        case "session":
            return "session"
        case "test":
            return "test"
        case found:
            raise _usage(item, f'isolation takes "session" or "test", found {found!r}')


def _volumes(item: pytest.Item, arguments: Mapping[str, Any]) -> Mounted:
    value = arguments.get("volumes")
    if value is None:
        return ()
    from pytest_imagebuild.image.volume import mounted_at, mounted_twice  # noqa: PLC0415 - few items have any

    try:
        volumes = mounted_at(value)
    except ValueError as error:
        raise _usage(item, str(error)) from None
    if (problem := mounted_twice(volumes)) is not None:
        raise _usage(item, problem)
    return volumes


def _timeout(item: pytest.Item, arguments: Mapping[str, Any]) -> float | None:
    value = arguments.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _usage(item, f"timeout takes a number of seconds above 0, found {value!r}")
    return float(value)


def _usage(item: pytest.Item, what: str) -> pytest.UsageError:
    path, line, _ = item.location
    place = f"{path}:{line + 1}" if line is not None else path
    return pytest.UsageError(f"{place}: @pytest.mark.image of {item.name}: {what}.")

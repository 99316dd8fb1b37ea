"""The instructions of a Dockerfile: frozen values. Nothing in them is expanded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_imagebuild.dockerfile.lines import Heredoc

__all__ = [
    "Command",
    "Copy",
    "Flags",
    "From",
    "Healthcheck",
    "Heredoc",
    "Instruction",
    "Mount",
    "Pairs",
    "Run",
    "Value",
    "Words",
]

Flags = Mapping[str, "tuple[str, ...]"]
"""Flags by name, without `--`: every value that was given; an empty text for one without a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placed:
    """`line` and `end` are the first and the last line in the file; `source` is the instruction on one line."""

    line: int
    end: int
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class From(_Placed):
    """`FROM`: a reference, the name of a stage before, or `scratch`."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs(_Placed):
    """`ENV`, `LABEL` or `ARG`: names and values; an `ARG` without a default has None."""

    keyword: str
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Value(_Placed):
    """`WORKDIR`, `USER`, `STOPSIGNAL`, `MAINTAINER` or `ONBUILD`: one text."""

    keyword: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Words(_Placed):
    """`EXPOSE` or `VOLUME`: several texts."""

    keyword: str
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command(_Placed):
    """`CMD`, `ENTRYPOINT` or `SHELL`; `shell` says that the only text of `argv` is for a shell."""

    keyword: str
    argv: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Healthcheck(_Placed):
    """`HEALTHCHECK`. `test` is as in the configuration of an image; times are as written ("30s")."""

    test: tuple[str, ...]
    times: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """`RUN --mount=type=…`: `kind` is the type, `options` the rest by name; one without a value is "true"."""

    kind: str
    options: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(_Placed):
    """`RUN`. In shell form, `argv` holds one text."""

    argv: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    flags: Flags = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy(_Placed):
    """`COPY` or `ADD`. A source that begins a here-document stands in `heredocs` by its name, not in `sources`."""

    keyword: str
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    stage: str = ""
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool | None = None
    flags: Flags = field(default_factory=dict)


Instruction = From | Pairs | Value | Words | Command | Healthcheck | Run | Copy

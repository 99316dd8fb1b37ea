"""From logical lines to instructions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_imagebuild.dockerfile.fault import DockerfileError
from pytest_imagebuild.dockerfile.instructions import (
    Command,
    Copy,
    Flags,
    From,
    Healthcheck,
    Instruction,
    Mount,
    Pairs,
    Run,
    Value,
    Words,
)
from pytest_imagebuild.dockerfile.lines import Line, heredoc_of, logical_lines

__all__ = ["parse", "parse_instruction"]

_FLAG = re.compile(r"--(?P<name>[a-z][a-z-]*)(?:=(?P<value>(?:\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.|[^\s\"'])*))?(?:\s+|$)")
_KNOWN_FLAGS: Mapping[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "ADD": frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
_NOT_IN_ONBUILD = ("FROM", "ONBUILD", "MAINTAINER")


@dataclass(frozen=True, slots=True)
class _Given:
    """A line with its flags apart."""

    line: Line
    flags: Flags
    rest: str
    escape: str

    @property
    def place(self) -> dict[str, object]:
        source = f"{self.line.keyword} {self.line.rest}".strip()
        return {"line": self.line.number, "end": self.line.end, "source": source}

    def error(self, problem: str) -> DockerfileError:
        return DockerfileError(self.line.number, problem)

    def flag(self, name: str, default: str = "") -> str:
        values = self.flags.get(name, (default,))
        if len(values) > 1:
            raise self.error(f"{self.line.keyword} has the flag --{name} more than once")
        return values[0]

    def on(self, name: str) -> bool:
        value = self.flag(name, "false")
        if value not in ("", "true", "false"):
            raise self.error(f"--{name} of {self.line.keyword} is true or false, not {value!r}")
        return value != "false"

    def words(self, needed: str) -> list[str]:
        words = self.rest.split()
        if not words:
            raise self.error(f"{self.line.keyword} needs {needed}")
        return words


def parse(text: str) -> tuple[tuple[Instruction, ...], str]:
    """Read a file: its instructions and its escape character. Raises DockerfileError."""
    cut = logical_lines(text)
    return tuple(_instruction(line, cut.escape) for line in cut.lines), cut.escape


def parse_instruction(text: str, line: int) -> Instruction:
    """Read one instruction that stands alone, as a trigger of `ONBUILD`; `line` is where to look for a fault."""
    found, _ = parse(text)
    if len(found) != 1:
        raise DockerfileError(line, f"{text!r} is not one instruction")
    return found[0]


def _instruction(line: Line, escape: str) -> Instruction:
    read = _READERS.get(line.keyword)
    if read is None:
        raise DockerfileError(line.number, f"{line.keyword} is no instruction of a Dockerfile")
    flags, rest = _flags(line)
    return read(_Given(line, flags, rest, escape))


def _flags(line: Line) -> tuple[Flags, str]:
    known = _KNOWN_FLAGS.get(line.keyword, frozenset())
    flags: dict[str, tuple[str, ...]] = {}
    rest = line.rest
    while known and rest.startswith("--"):
        match = _FLAG.match(rest)
        name = match["name"] if match else rest.split()[0]
        if match is None or name not in known:
            raise DockerfileError(line.number, f"{line.keyword} has no flag --{name.lstrip('-')}")
        flags[name] = (*flags.get(name, ()), match["value"] or "")
        rest = rest[match.end() :]
    return flags, rest.strip()


def _json(rest: str) -> tuple[str, ...] | None:
    """Return the texts of a JSON array; None where it is none, which makes it the shell form."""
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest)
    except ValueError:
        return None
    return tuple(found) if isinstance(found, list) and all(isinstance(item, str) for item in found) else None


def _from(given: _Given) -> From:
    words = given.words("an image")
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise given.error("FROM takes an image, or an image, AS and a name")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not re.fullmatch(r"[a-z][a-z0-9-_.]*", name):
        raise given.error(f"{words[2]!r} cannot name a stage: a letter, then letters, digits, '-', '_' and '.'")
    return From(**given.place, image=words[0], name=name, platform=given.flag("platform"))  # type: ignore[arg-type]


def _pairs(given: _Given) -> Pairs:
    keyword = given.line.keyword
    given.words("a name and a value")
    words = _quoted_words(given.rest, given.escape)
    if keyword == "ARG":
        pairs = [(name, value if equals else None) for name, equals, value in (word.partition("=") for word in words)]
    elif "=" not in words[0]:
        # The old form: one name, and the rest of the line.
        name, *value = re.split(r"\s+", given.rest, maxsplit=1)
        if not value:
            raise given.error(f"{keyword} {name} has no value: write {keyword} {name}=value")
        pairs = [(name, value[0])]
    else:
        wrong = next((word for word in words if "=" not in word), None)
        if wrong is not None:
            raise given.error(f"{keyword} has {wrong!r} where a name=value is due; put quotes around the value before")
        pairs = [(name, value) for name, _, value in (word.partition("=") for word in words)]
    if any(not name for name, _ in pairs):
        raise given.error(f"{keyword} has a value without a name")
    return Pairs(**given.place, keyword=keyword, pairs=tuple(pairs))  # type: ignore[arg-type]


def _quoted_words(rest: str, escape: str) -> list[str]:
    """Part at white space that is in no quotes and not escaped; quotes and escapes stay."""
    any_escape = re.escape(escape)
    return re.findall(rf"""(?:"(?:{any_escape}.|[^"])*"|'(?:{any_escape}.|[^'])*'|{any_escape}.|\S)+""", rest)


def _value(given: _Given) -> Value:
    given.words("an argument")
    if given.line.keyword == "ONBUILD":
        trigger = parse_instruction(given.rest, given.line.number)
        keyword = trigger.source.partition(" ")[0]
        if keyword in _NOT_IN_ONBUILD:
            raise given.error(f"{keyword} cannot be a trigger of ONBUILD")
    return Value(**given.place, keyword=given.line.keyword, value=given.rest)  # type: ignore[arg-type]


def _words(given: _Given) -> Words:
    words = _json(given.rest) if given.line.keyword == "VOLUME" else None
    words = words if words is not None else tuple(given.words("an argument"))
    return Words(**given.place, keyword=given.line.keyword, words=words)  # type: ignore[arg-type]


def _command(given: _Given) -> Command:
    keyword = given.line.keyword
    argv = _json(given.rest)
    if keyword == "SHELL" and not argv:
        raise given.error('SHELL takes a JSON array, as in SHELL ["/bin/bash", "-c"]')
    shell = argv is None
    found = (given.rest,) if argv is None else argv
    return Command(**given.place, keyword=keyword, argv=found, shell=shell)  # type: ignore[arg-type]


def _healthcheck(given: _Given) -> Healthcheck:
    kind, _, rest = given.rest.partition(" ")
    test: tuple[str, ...]
    if kind.upper() == "NONE" and not rest.strip():
        test = ("NONE",)
    elif kind.upper() == "CMD" and rest.strip():
        argv = _json(rest.strip())
        test = ("CMD-SHELL", rest.strip()) if argv is None else ("CMD", *argv)
    else:
        raise given.error("HEALTHCHECK takes NONE, or CMD and a command")
    retries = given.flag("retries", "0")
    if not retries.isdecimal():
        raise given.error(f"--retries of HEALTHCHECK is a number, not {retries!r}")
    times = {name: given.flag(name) for name in given.flags if name != "retries"}
    return Healthcheck(**given.place, test=test, times=times, retries=int(retries))  # type: ignore[arg-type]


def _run(given: _Given) -> Run:
    given.words("a command")
    argv = _json(given.rest)
    return Run(
        **given.place,  # type: ignore[arg-type]
        argv=(given.rest,) if argv is None else argv,
        shell=argv is None,
        heredocs=given.line.heredocs,
        mounts=tuple(_mount(given, text) for text in given.flags.get("mount", ())),
        network=given.flag("network", "default"),
        security=given.flag("security", "sandbox"),
        flags=given.flags,
    )


def _mount(given: _Given, text: str) -> Mount:
    options: dict[str, str] = {}
    for part in text.strip("\"'").split(","):
        name, equals, value = part.partition("=")
        options[name.strip().lower()] = value if equals else "true"
    kind = options.pop("type", "bind")
    if kind not in ("bind", "cache", "tmpfs", "secret", "ssh"):
        raise given.error(f"--mount of RUN has no type {kind!r}")
    for alias, name in (("src", "source"), ("dst", "target"), ("destination", "target"), ("ro", "readonly")):
        if alias in options:
            options[name] = options.pop(alias)
    for name in ("rw", "readwrite"):
        if name in options:
            options["readonly"] = "false" if options.pop(name) == "true" else "true"
    return Mount(kind=kind, options=options)


def _copy(given: _Given) -> Copy:
    keyword = given.line.keyword
    argv = _json(given.rest)
    # Quotes mean nothing to Docker here, but in the word of a here-document and to the expansion.
    words = list(argv) if argv is not None else given.rest.split()
    if len(words) < 2:
        raise given.error(f"{keyword} needs at least a source and a destination")
    *sources, destination = words
    if argv is None:
        sources = [word for word in sources if heredoc_of(word) is None]
    return Copy(
        **given.place,  # type: ignore[arg-type]
        keyword=keyword,
        sources=tuple(sources),
        destination=destination,
        heredocs=given.line.heredocs,
        stage=given.flag("from"),
        chown=given.flag("chown"),
        chmod=given.flag("chmod"),
        checksum=given.flag("checksum"),
        parents=given.on("parents"),
        exclude=given.flags.get("exclude", ()),
        unpack=given.on("unpack") if "unpack" in given.flags else None,
        flags=given.flags,
    )


_READERS: Mapping[str, Callable[[_Given], Instruction]] = {
    "FROM": _from,
    **dict.fromkeys(("ENV", "LABEL", "ARG"), _pairs),
    **dict.fromkeys(("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER", "ONBUILD"), _value),
    **dict.fromkeys(("EXPOSE", "VOLUME"), _words),
    **dict.fromkeys(("CMD", "ENTRYPOINT", "SHELL"), _command),
    "HEALTHCHECK": _healthcheck,
    "RUN": _run,
    **dict.fromkeys(("COPY", "ADD"), _copy),
}

"""From the text of a Dockerfile to its logical lines: parser directives, continuations, comments, here-documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_imagebuild.dockerfile.fault import DockerfileError

__all__ = ["Heredoc", "Line", "Lines", "directives_of", "heredoc_of", "logical_lines"]

_DIRECTIVE = re.compile(r"#\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*=\s*(?P<value>.+?)\s*")
_FRONTEND = "docker/dockerfile"
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(?P<fd>\d*)<<(?P<chomp>-?)(?P<name>[^<\s]+)")
_TAKES_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, kw_only=True, slots=True)
class Heredoc:
    """A here-document. `expand` says that its word had no quotes, `chomp` that leading tabs go (`<<-`)."""

    name: str
    content: str
    expand: bool
    chomp: bool

    @property
    def text(self) -> str:
        """The content, without leading tabs where they go."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One instruction as text. `number` and `end` are its first and last line in the file, from 1."""

    number: int
    end: int
    keyword: str
    rest: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """All instructions of a file; `escape` is its escape character."""

    lines: tuple[Line, ...]
    escape: str


def directives_of(text: str) -> Mapping[str, str]:
    """Return the parser directives at the top of a file, by their names in lower case."""
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").split("\n"):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match["name"].lower() not in _DIRECTIVES:
            break
        found[match["name"].lower()] = match["value"]
    return found


def logical_lines(text: str) -> Lines:
    """Cut a file into its instructions. Raises DockerfileError."""
    directives = directives_of(text)
    escape = directives.get("escape", "\\")
    frontend = directives.get("syntax", _FRONTEND)
    if not frontend.removeprefix("docker.io/").startswith(_FRONTEND):
        raise DockerfileError(1, f"# syntax={frontend} is another language than that of Dockerfiles")
    if escape not in ("\\", "`"):
        raise DockerfileError(1, f"the escape character {escape!r} is neither a backslash nor a backtick")
    return Lines(lines=tuple(_Cutter(text, escape).cut()), escape=escape)


class _Cutter:
    def __init__(self, text: str, escape: str) -> None:
        self._lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
        self._continued = re.compile(rf"(?:(?<!{re.escape(escape)})|^){re.escape(escape)}[ \t]*$")
        self._at = 0

    def cut(self) -> list[Line]:
        found: list[Line] = []
        while self._at < len(self._lines):
            number = self._at + 1
            first = self._lines[self._at].lstrip()
            self._at += 1
            if not first or first.startswith("#"):
                continue
            whole = self._whole(first).strip()
            if whole:
                found.append(self._line(number, whole))
        return found

    def _whole(self, line: str) -> str:
        whole = ""
        while self._continued.search(line):
            whole += self._continued.sub("", line)
            # A comment, or an empty line, does not end what is continued.
            while self._at < len(self._lines) and self._is_nothing(self._lines[self._at]):
                self._at += 1
            if self._at >= len(self._lines):
                return whole
            line = self._lines[self._at]
            self._at += 1
        return whole + line

    def _is_nothing(self, line: str) -> bool:
        return not line.strip() or line.lstrip().startswith("#")

    def _line(self, number: int, whole: str) -> Line:
        keyword, rest = [*re.split(r"\s+", whole, maxsplit=1), ""][:2]
        keyword = keyword.upper()
        is_json = re.match(r"(?:--\S+\s+)*\[", rest) is not None and rest.rstrip().endswith("]")
        heredocs: list[Heredoc] = []
        if keyword in _TAKES_HEREDOCS and "<<" in rest and not is_json:
            heredocs = [self._heredoc(number, word) for word in _words(rest) if heredoc_of(word)]
        return Line(number=number, end=self._at, keyword=keyword, rest=rest.strip(), heredocs=tuple(heredocs))

    def _heredoc(self, number: int, word: str) -> Heredoc:
        name, chomp, expand = heredoc_of(word) or ("", False, False)
        content = ""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if (line.lstrip("\t") if chomp else line) == name:
                return Heredoc(name=name, content=content, expand=expand, chomp=chomp)
            content += f"{line}\n"
        raise DockerfileError(number, f"the here-document {name} has no end: a line that is just {name}")


def heredoc_of(word: str) -> tuple[str, bool, bool] | None:
    """Return the name of the here-document that a word begins, whether tabs go, and whether variables are expanded."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    name = match["name"].replace("'", "").replace('"', "")
    return (name, match["chomp"] == "-", name == match["name"]) if name else None


def _words(rest: str) -> list[str]:
    """Part a line at white space that is in no quotes; quotes stay."""
    return re.findall(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\]|["'\\])+""", rest)

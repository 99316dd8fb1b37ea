"""Variables while a Dockerfile is gone through: `ARG`, `ENV`, and those that Docker sets itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_imagebuild.dockerfile.fault import DockerfileError
from pytest_imagebuild.dockerfile.instructions import Pairs
from pytest_imagebuild.dockerfile.words import ExpansionError, Lookup, expand, split

__all__ = ["PREDEFINED", "Scope", "platform_arguments"]

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
PREDEFINED = (*_PROXIES, *map(str.upper, _PROXIES))
"""Build arguments that every `RUN` sees without an `ARG`, and that no history shows."""


def platform_arguments(platform: str) -> dict[str, str]:
    """Return the arguments that say for which platform ("linux/amd64") and on which an image is built."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    values = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": variant}
    return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in values.items()}


@dataclass(slots=True)
class Scope:
    """The variables of one stage, or, before the first, of the whole file.

    `given` are the build arguments that the caller gave, `outer` what the file says before its first stage. Environment
    variables win over arguments.
    """

    given: Mapping[str, str]
    outer: Mapping[str, str] = field(default_factory=dict)
    escape: str = "\\"
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def lookup(self, name: str) -> str | None:
        """Return the value of a variable; None where it is not set."""
        return self.environment.get(name, self.arguments.get(name))

    def expand(self, text: str, line: int, lookup: Lookup | None = None) -> str:
        """Expand a text. Raises DockerfileError at `line`."""
        try:
            return expand(text, lookup or self.lookup, self.escape)
        except ExpansionError as error:
            raise DockerfileError(line, str(error)) from error

    def split(self, text: str, line: int) -> list[str]:
        """Expand a text to words. Raises DockerfileError at `line`."""
        try:
            return split(text, self.lookup, self.escape)
        except ExpansionError as error:
            raise DockerfileError(line, str(error)) from error

    def argue(self, instruction: Pairs) -> None:
        """Take in an `ARG`: what the caller gave, else its default, else what the file says before its first stage."""
        for name, default in instruction.pairs:
            if name in self.given:
                self.arguments[name] = self.given[name]
            elif default is not None:
                self.arguments[name] = self.expand(default, instruction.line)
            elif name in self.outer:
                self.arguments[name] = self.outer[name]

    def pairs(self, instruction: Pairs) -> dict[str, str]:
        """Return the expanded pairs of an `ENV` or `LABEL`; none of them sees another."""
        return {
            self.expand(name, instruction.line): self.expand(value or "", instruction.line)
            for name, value in instruction.pairs
        }

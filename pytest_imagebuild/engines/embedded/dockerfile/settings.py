"""What instructions change in the configuration of an image (OCI image-spec, "config"), as Docker writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_imagebuild.dockerfile import Command, DockerfileError, Healthcheck, Value, Words
from pytest_imagebuild.dockerfile.commands import DEFAULT_SHELL
from pytest_imagebuild.dockerfile.scope import Scope
from pytest_imagebuild.engines.configuration import variables_of, workdir_of

__all__ = ["Settings"]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


class Settings:
    """The configuration of one stage, while it changes."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.triggers = [str(trigger) for trigger in self.config.pop("OnBuild", None) or ()]
        self._command_set = False

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the image."""
        return variables_of(self.config)

    @property
    def workdir(self) -> str:
        """The absolute path of the working directory."""
        return workdir_of(self.config)

    @property
    def shell(self) -> tuple[str, ...]:
        """What the shell form runs."""
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def user(self) -> str:
        """Whom commands run as, as `USER` wrote it."""
        return str(self.config.get("User") or "")

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Take in an `ENV`."""
        self.config["Env"] = [f"{name}={value}" for name, value in {**self.environment, **variables}.items()]

    def set_labels(self, labels: Mapping[str, str]) -> None:
        """Take in a `LABEL`."""
        self.config["Labels"] = {**(self.config.get("Labels") or {}), **labels}

    def set_command(self, item: Command) -> None:
        """Take in a `CMD`, an `ENTRYPOINT` or a `SHELL`."""
        argv = [*self.shell, *item.argv] if item.shell else list(item.argv)
        match item.keyword:
            case "SHELL":
                self.config["Shell"] = argv
            case "CMD":
                self.config["Cmd"] = argv
                self._command_set = True
            case _:
                self.config["Entrypoint"] = argv
                if not self._command_set:
                    # The command of the image below was for its own entrypoint.
                    self.config.pop("Cmd", None)

    def set_value(self, item: Value, value: str) -> None:
        """Take in a `WORKDIR`, `USER`, `STOPSIGNAL`, `ONBUILD` or `MAINTAINER`."""
        match item.keyword:
            case "WORKDIR":
                self.config["WorkingDir"] = workdir_of(self.config, value)
            case "USER":
                self.config["User"] = value
            case "STOPSIGNAL":
                self.config["StopSignal"] = value
            case "ONBUILD":
                self.config["OnBuild"] = [*(self.config.get("OnBuild") or ()), value]
            case _:
                pass  # the maintainer is no part of the configuration

    def set_words(self, item: Words, scope: Scope) -> None:
        """Take in an `EXPOSE` or a `VOLUME`."""
        if item.keyword == "VOLUME":
            self._add("Volumes", [scope.expand(word, item.line) for word in item.words])
        else:
            words = [word for text in item.words for word in scope.split(text, item.line)]
            self._add("ExposedPorts", [port for word in words for port in _ports(word, item.line)])

    def set_healthcheck(self, item: Healthcheck) -> None:
        """Take in a `HEALTHCHECK`."""
        found: dict[str, Any] = {"Test": list(item.test)}
        found.update({_TIMES[name]: _nanoseconds(value, item.line) for name, value in item.times.items()})
        if item.retries:
            found["Retries"] = item.retries
        self.config["Healthcheck"] = {name: value for name, value in found.items() if value}

    def _add(self, name: str, keys: Sequence[str]) -> None:
        self.config[name] = {**(self.config.get(name) or {}), **{key: {} for key in keys}}


def _ports(word: str, line: int) -> list[str]:
    match = _PORT.fullmatch(word)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise DockerfileError(line, f"EXPOSE takes ports as 80, 80/udp or 8000-8010, not {word!r}")
    kind = (match[3] or "tcp").lower()
    return [f"{port}/{kind}" for port in range(int(match[1]), int(match[2] or match[1]) + 1)]


def _nanoseconds(text: str, line: int) -> int:
    if text == "0":
        return 0
    if not text or _TIME.sub("", text):
        raise DockerfileError(line, f"HEALTHCHECK takes times as 30s or 1m30s, not {text!r}")
    return int(sum(float(number) * _UNITS[unit] for number, unit in _TIME.findall(text)))

"""What is wrong with a Dockerfile, by its line."""

from __future__ import annotations

__all__ = ["DockerfileError"]


class DockerfileError(Exception):
    """A line of a Dockerfile is wrong, or cannot be done here. `line` counts from 1 in the text that was read."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem

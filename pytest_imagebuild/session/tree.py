"""What a session container gets at its start: the project tree, at its own path, and the lazy `add_local_*` sources.

In a git checkout the tree is what git tracks or would track: ignored files stay out. Elsewhere it is everything
but what is plainly not source. Both go into one uncompressed tar.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.patterns import FilePatternMatcher

if TYPE_CHECKING:
    from pytest_imagebuild.engines.entries import FileEntry
    from pytest_imagebuild.image.sources import LocalSource

__all__ = ["ProjectTree", "payload", "read_tree"]

MAX_BYTES = 512 * 1024 * 1024
_NOT_SOURCE = {
    ".git",
    ".hg",
    ".svn",
    ".tox",
    ".nox",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "node_modules",
}
_GIT_TIMEOUT = 60
_BLOCK, _RECORD = 512, 10240
"""Of a tar, as `tarfile` has them."""


class ProjectTree(NamedTuple):
    """The files of a project: paths relative to `root`, sorted by their parts."""

    root: Path
    paths: tuple[str, ...]

    def holds(self, folder: Path) -> bool:
        """Tell whether a folder of the host is part of the tree."""
        return self.place(folder) is not None

    def place(self, folder: Path) -> Path | None:
        """Return where a folder of the host lies in the tree: below `root`, as it is written; None if it does not."""
        try:
            relative = folder.resolve().relative_to(self.root.resolve())
        except ValueError:
            return None
        below = f"{relative}/"
        inside = relative == PurePath() or any(path.startswith(below) for path in self.paths)
        return self.root / relative if inside else None


def read_tree(root: Path, patterns: Iterable[str] = ()) -> ProjectTree:
    """List the project's files.

    `patterns` (ini `image_sync`) choose among them, as in a `.dockerignore` turned round: a file is taken if the last
    pattern that matches it has no `!`; patterns that all begin with `!` leave out.
    """
    chosen = tuple(patterns)
    listed = _git_files(root)
    paths = listed if listed is not None else [str(path) for path in sorted(_walk(root, PurePath()))]
    if chosen:
        everything = ("**",) if all(pattern.startswith("!") for pattern in chosen) else ()
        matcher = FilePatternMatcher(*everything, *chosen)
        paths = [path for path in paths if matcher(Path(path))]
    return ProjectTree(root=root, paths=tuple(paths))


def payload(
    trees: Iterable[ProjectTree],
    sources: Iterable[LocalSource],
    files: Iterable[FileEntry] = (),
    *,
    there: Collection[str] = (),
) -> bytes:
    """Return the tar of trees, of local sources and of `files`; what comes later wins.

    Of the trees it leaves out what is `there` already, by absolute paths.
    """
    packed = _Packed()
    for tree in trees:
        root = f"{tree.root}/"
        for path in tree.paths:
            name = f"{root}{path}"
            if name not in there and not packed.add_path(name):
                raise ImageBuildError(
                    f"The project tree {tree.root} is larger than {MAX_BYTES >> 20} MiB. Ignore what tests do not "
                    "need in .gitignore, or leave it out with the ini key image_sync (for example `!data/**`)."
                )
    for source in sources:
        from pytest_imagebuild.plan.context import read_source  # noqa: PLC0415 - few images have any

        for entry in read_source(source):
            packed.add_entry(entry)
    for entry in files:
        packed.add_entry(entry)
    return packed.closed()


class _Packed:
    """A tar in the making. `tarfile` takes ten times as long for a small file, and a project has thousands."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add_path(self, path: str) -> bool:
        """Add what lies at `path`; return False, without reading it, for a file that there is no room for."""
        try:
            return self._add_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return True  # git lists files that were deleted but are still tracked, and editors remove theirs meanwhile

    def _add_file(self, path: str) -> bool:
        status = os.lstat(path)
        mode, changed = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        if stat.S_ISLNK(status.st_mode):
            self._put(_header(path, mode, 0, changed, os.readlink(path)))  # noqa: PTH115 - a hot loop, here and below
        elif stat.S_ISREG(status.st_mode):
            if status.st_size > MAX_BYTES - self._size:
                return False
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                content = file.readall()
            self._add(path, mode, changed, content)
        return True

    def add_entry(self, entry: FileEntry) -> None:
        """Add a file that lies elsewhere, or nowhere."""
        self._add(entry.path, entry.mode, 0, entry.source.read_bytes() if entry.source else entry.data or b"")

    def closed(self) -> bytes:
        """Return it, with the end of an archive."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._size % _RECORD))
        return b"".join(self._parts)

    def _add(self, path: str, mode: int, changed: int, content: bytes) -> None:
        self._put(_header(path, mode, len(content), changed))
        self._put(content)
        self._put(bytes(-len(content) % _BLOCK))

    def _put(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)


_NAME = 100
_PLAIN_SIZE, _PLAIN_TIME = 0o77777777777, 0o77777777777
_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar  \0" + bytes(247)
_SUM_OF_REST = sum(_AFTER_CHECKSUM) + 8 * ord(" ")


def _header(path: str, mode: int, size: int, changed: int, link: str | None = None) -> bytes:
    """Return the header of a regular file, or of a symbolic link, in the form of GNU tar."""
    name = path.lstrip("/")
    encoded = os.fsencode(name)
    if link is None and len(encoded) <= _NAME and size <= _PLAIN_SIZE and 0 <= changed <= _PLAIN_TIME:
        first = b"%b%07o\x000000000\x000000000\x00%011o\x00%011o\x00" % (
            encoded.ljust(_NAME, b"\0"),
            mode,
            size,
            changed,
        )
        return b"%b%06o\x00 %b" % (first, sum(first) + _SUM_OF_REST, _AFTER_CHECKSUM)
    import tarfile  # noqa: PLC0415 - few files need it

    member = tarfile.TarInfo(name)
    member.mode, member.size, member.mtime = mode, size, changed
    if link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, link
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _git_files(root: Path) -> list[str] | None:
    """Return what git tracks or would track below `root`; None outside a checkout or without git."""
    # Side by side: each takes as long as a process does.
    asked = [
        _git(root, "ls-files", "--cached", "--recurse-submodules", "-z"),
        _git(root, "ls-files", "--others", "--exclude-standard", "-z"),
    ]
    answers = [_answer(process) for process in asked]
    names: set[bytes] = set()
    for answer in answers:
        if answer is None:
            return None
        names.update(answer.split(b"\0"))
    return [os.fsdecode(name) for name in sorted(names - {b""}, key=lambda name: name.split(b"/"))]


def _git(root: Path, *arguments: str) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            # A checkout of another user (a mounted one in CI) is no reason to lose what git knows to be ignored.
            ["git", "-c", "safe.directory=*", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _answer(process: subprocess.Popen[bytes] | None) -> bytes | None:
    if process is None:
        return None
    with process:
        try:
            printed, _ = process.communicate(timeout=_GIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    return printed if process.returncode == 0 else None


def _walk(root: Path, below: PurePath) -> Iterator[PurePath]:
    try:
        with os.scandir(root / below) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return  # it went away after it was listed
    if any(entry.name == "pyvenv.cfg" for entry in found):
        return
    for entry in found:
        relative = below / entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_SOURCE and not entry.name.endswith(".egg-info"):
                yield from _walk(root, relative)
        elif entry.is_file() or entry.is_symlink():
            yield relative

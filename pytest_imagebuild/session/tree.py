"""What a session container gets at its start: the project tree, at its own path, and the lazy `add_local_*` sources.

In a git checkout the tree is what git tracks or would track: ignored files stay out. Elsewhere it is everything
but what is plainly not source. Both go into one uncompressed tar.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.errors import ImageBuildError
from pytest_imagebuild.image.patterns import FilePatternMatcher
from pytest_imagebuild.image.sources import LocalSource
from pytest_imagebuild.plan.context import read_source

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectTree:
    """The files of a project: paths relative to `root`, sorted."""

    root: Path
    paths: tuple[PurePath, ...]

    def holds(self, folder: Path) -> bool:
        """Tell whether a folder of the host is part of the tree."""
        return self.place(folder) is not None

    def place(self, folder: Path) -> Path | None:
        """Return where a folder of the host lies in the tree: below `root`, as it is written; None if it does not."""
        try:
            relative = folder.resolve().relative_to(self.root.resolve())
        except ValueError:
            return None
        inside = relative == PurePath() or any(relative in path.parents for path in self.paths)
        return self.root / relative if inside else None


def read_tree(root: Path, patterns: Iterable[str] = ()) -> ProjectTree:
    """List the project's files.

    `patterns` (ini `image_sync`) choose among them, as in a `.dockerignore` turned round: a file is taken if the last
    pattern that matches it has no `!`; patterns that all begin with `!` leave out.
    """
    chosen = tuple(patterns)
    listed = _git_files(root)
    paths = sorted(listed if listed is not None else _walk(root, PurePath()))
    if chosen:
        everything = ("**",) if all(pattern.startswith("!") for pattern in chosen) else ()
        matcher = FilePatternMatcher(*everything, *chosen)
        paths = [path for path in paths if matcher(Path(path))]
    return ProjectTree(root=root, paths=tuple(paths))


def payload(trees: Iterable[ProjectTree], sources: Iterable[LocalSource], files: Iterable[FileEntry] = ()) -> bytes:
    """Return the tar of trees, of local sources and of `files`; what comes later wins."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for tree in trees:
            for path in tree.paths:
                if not _add_path(archive, tree.root / path, MAX_BYTES - stream.tell()):
                    raise ImageBuildError(
                        f"The project tree {tree.root} is larger than {MAX_BYTES >> 20} MiB. Ignore what tests do not "
                        "need in .gitignore, or leave it out with the ini key image_sync (for example `!data/**`)."
                    )
        for source in sources:
            for entry in read_source(source):
                _add_entry(archive, entry)
        for entry in files:
            _add_entry(archive, entry)
    return stream.getvalue()


def _add_path(archive: tarfile.TarFile, path: Path, room: int) -> bool:
    """Add what lies at `path`; return False, without reading it, for a file that is larger than `room`."""
    try:
        return _add_file(archive, path, room)
    except (FileNotFoundError, NotADirectoryError):
        return True  # git lists files that were deleted but are still tracked, and editors remove theirs meanwhile


def _add_file(archive: tarfile.TarFile, path: Path, room: int) -> bool:
    status = path.lstat()
    info = tarfile.TarInfo(str(path).lstrip("/"))
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = status.st_mtime
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        if status.st_size > room:
            return False
        data = path.read_bytes()
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return True


def _add_entry(archive: tarfile.TarFile, entry: FileEntry) -> None:
    data = entry.source.read_bytes() if entry.source else entry.data or b""
    info = tarfile.TarInfo(entry.path.lstrip("/"))
    info.mode, info.size = entry.mode, len(data)
    archive.addfile(info, io.BytesIO(data))


def _git_files(root: Path) -> list[PurePath] | None:
    """Return what git tracks or would track below `root`; None outside a checkout or without git."""
    tracked = _git(root, "ls-files", "--cached", "--recurse-submodules", "-z")
    others = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if tracked is None or others is None:
        return None
    return [PurePath(os.fsdecode(name)) for name in {*tracked.split(b"\0"), *others.split(b"\0")} if name]


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            # A checkout of another user (a mounted one in CI) is no reason to lose what git knows to be ignored.
            ["git", "-c", "safe.directory=*", "-C", str(root), *arguments],
            capture_output=True,
            check=False,
            timeout=_GIT_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _walk(root: Path, below: PurePath) -> Iterator[PurePath]:
    with os.scandir(root / below) as entries:
        found = list(entries)
    if any(entry.name == "pyvenv.cfg" for entry in found):
        return
    for entry in found:
        relative = below / entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_SOURCE and not entry.name.endswith(".egg-info"):
                yield from _walk(root, relative)
        elif entry.is_file() or entry.is_symlink():
            yield relative

"""What an engine of ours puts into a container for a GPU, out of a CDI specification.

Hooks are programs that want the files of an OCI runtime, so none is run. What the well-known hooks of NVIDIA's toolkit
do is done by mounts and by a variable instead, which leave nothing in the image; of any other a sentence tells.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_imagebuild.engines.gpus.cdi import CdiMount, DeviceNode, Edits, Hook

__all__ = ["Placement", "placement"]

_TOOLKIT = {"nvidia-ctk", "nvidia-cdi-hook"}
_NEEDLESS = {"chmod", "disable-device-node-modification"}
"""Folders are open to all here already, and nothing in a container may make device nodes."""
_BINDS = {"", "bind", "rbind", "none"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """`library_folders` are for the search path of the dynamic linker, `lost` tells what is not done."""

    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[CdiMount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    library_folders: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __add__(self, other: Placement) -> Placement:
        """Return what both have, each thing once."""
        return Placement(
            nodes=tuple({node.path: node for node in (*self.nodes, *other.nodes)}.values()),
            mounts=tuple({mount.target: mount for mount in (*self.mounts, *other.mounts)}.values()),
            environment=tuple(dict((*self.environment, *other.environment)).items()),
            library_folders=tuple(dict.fromkeys((*self.library_folders, *other.library_folders))),
            lost=tuple(dict.fromkeys((*self.lost, *other.lost))),
        )


def placement(edits: Edits) -> Placement:
    """Return what the edits of a specification come to. Looks at the folders of the libraries that are mounted."""
    binds = {posixpath.normpath(mount.target): mount for mount in edits.mounts if mount.kind in _BINDS}
    lost = [f"the mount of type {mount.kind} at {mount.target}" for mount in edits.mounts if mount.kind not in _BINDS]
    folders: list[str] = []
    links: list[tuple[str, str]] = []
    for hook in edits.hooks:
        name, options = _call(hook)
        if name in {"update-ldcache", "create-soname-symlinks"}:
            folders += options.get("--folder", [])
        elif name == "create-symlinks":
            links += [(target, link) for target, _, link in (text.partition("::") for text in options["--link"])]
        elif name not in _NEEDLESS:
            lost.append(f"its hook {hook.program} {' '.join(hook.arguments)}".rstrip())
    for alias in tuple(_aliases(binds.values(), set(map(posixpath.normpath, folders)))):
        binds.setdefault(alias.target, alias)
    for target, link in links:
        leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
        if leads_to in binds:
            source = binds[leads_to]
            binds.setdefault(link, CdiMount(source=source.source, target=link, writable=source.writable))
        else:
            lost.append(f"its link {link} to {target}")
    return Placement(
        nodes=edits.nodes,
        mounts=tuple(binds.values()),
        environment=edits.environment,
        library_folders=tuple(dict.fromkeys(folders)),
        lost=tuple(lost),
    )


def _call(hook: Hook) -> tuple[str, dict[str, list[str]]]:
    """Return the name of a hook of NVIDIA's toolkit and the values of its options; no name for another program."""
    if hook.program not in _TOOLKIT:
        return "", {}
    words = [word for word in hook.arguments if word != "hook"]
    name = next((word for word in words if not word.startswith("-")), "")
    options: dict[str, list[str]] = {"--link": [], "--folder": []}
    rest = iter(words[words.index(name) + 1 :] if name else ())
    for word in rest:
        option, equals, value = word.partition("=")
        options.setdefault(option, []).extend((value if equals else next(rest, "")).split(","))
    return name, options


def _aliases(mounts: Iterable[CdiMount], folders: set[str]) -> Iterator[CdiMount]:
    """Yield mounted libraries once more under the names by which this machine finds them: `libcuda.so.1`."""
    for mount in mounts:
        folder, name = posixpath.split(posixpath.normpath(mount.target))
        if folder not in folders or ".so" not in name:
            continue
        source = Path(mount.source)
        stem = name.partition(".so")[0]
        for other in sorted(source.parent.glob(f"{stem}.so*")):
            if other.is_symlink() and other.resolve() == source.resolve():
                yield CdiMount(source=mount.source, target=f"{folder}/{other.name}", writable=False)

"""What an engine has to give: GPUs, and where it looked for them. Choosing among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["Gpu", "GpuInventory", "Wish", "visible"]

_ANY = "ANY"


class Wish(Protocol):
    """So many GPUs of a type, which is in capitals; `ANY` is the type of all."""

    @property
    def type(self) -> str:
        """The type."""

    @property
    def count(self) -> int:
        """How many."""


_Wish = TypeVar("_Wish", bound=Wish)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU that containers can have.

    `id` is the same for every engine of one machine, `types` are the names by which it can be asked for, in capitals,
    `name` is for people. `uuid` is NVIDIA's, empty where it has none. `lost` are sentences about what of it a container
    goes without.
    """

    id: str
    types: tuple[str, ...] = ()
    name: str = ""
    uuid: str = ""
    lost: tuple[str, ...] = ()

    def is_a(self, kind: str) -> bool:
        """Say whether it is of a type, as Modal writes types: `H100!` is no other than H100, `B200+` also a B300."""
        plain = "-".join(kind.upper().replace("_", " ").split()).rstrip("!")
        if plain == "B200+":
            return bool({"B200", "B300"} & set(self.types))
        return plain == _ANY or plain in self.types


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuInventory:
    """The GPUs that containers of an engine can have. `looked_at` says where they were looked for, and in vain why."""

    gpus: tuple[Gpu, ...] = ()
    looked_at: tuple[str, ...] = ()

    def fitting(self, wishes: Iterable[_Wish]) -> tuple[_Wish, tuple[Gpu, ...]] | None:
        """Return the first wish of which there are enough, with all GPUs of its type; None where there is none."""
        for wish in wishes:
            found = tuple(gpu for gpu in self.gpus if gpu.is_a(wish.type))
            if len(found) >= wish.count:
                return wish, found
        return None

    def of(self, ids: Sequence[str]) -> tuple[Gpu, ...]:
        """Return the GPUs of these ids, in their order. Raises KeyError for one that is not here."""
        by_id = {gpu.id: gpu for gpu in self.gpus}
        return tuple(by_id[each] for each in ids)

    def lacking(self, asked: str) -> str:
        """Say what was asked for, what was found, and where it was looked for."""
        names = [gpu.name or gpu.id for gpu in self.gpus]
        counts = {name: names.count(name) for name in names}
        counted = [name if count == 1 else f"{count} {name}" for name, count in counts.items()]
        found = ", ".join(counted) if counted else "no GPU"
        return f"asked for {asked}, found {found} (looked at {', '.join(self.looked_at) or 'nothing'})"


def visible(gpus: Iterable[Gpu]) -> dict[str, str]:
    """Return the variables by which CUDA and NVIDIA's tools see just these, by their UUIDs."""
    uuids = ",".join(gpu.uuid for gpu in gpus if gpu.uuid)
    return {"CUDA_VISIBLE_DEVICES": uuids, "NVIDIA_VISIBLE_DEVICES": uuids} if uuids else {}

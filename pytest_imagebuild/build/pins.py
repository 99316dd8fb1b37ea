"""Pins: read from the lockfile; resolved and written where the lockfile has no record and may be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_imagebuild.engines.layers import BasePin
from pytest_imagebuild.errors import LockfileError
from pytest_imagebuild.image.base_names import SCRATCH, published_name
from pytest_imagebuild.lockfile import BaseRecord, LayerRecord, Lockfile, Pin, normal_name

if TYPE_CHECKING:
    from pytest_imagebuild.build.lockstore import LockMode, LockStore
    from pytest_imagebuild.image.instructions import Install
    from pytest_imagebuild.plan.dockerfiles import PlannedDockerfile
    from pytest_imagebuild.plan.plan import PlannedLayer

    Resolver = Callable[[Install, tuple[Pin, ...]], tuple[Pin, ...]]
    """Resolves an install in the image below it, keeping the given pins where it can."""

__all__ = ["Pins"]

# Tools that take the newest of everything when one thing is resolved again.
_UNKEPT = ("apt", "micromamba")


@dataclass(kw_only=True, slots=True)
class Pins:
    """The pins of one run, on one platform.

    `before` is what the file held when the run began, `lockfile` when it was last read or written. `run` is shared by
    the processes of a run: what one of them resolved again, the others take.
    """

    store: LockStore
    mode: LockMode
    platform: str
    run: str
    before: Lockfile
    lockfile: Lockfile
    used_bases: set[tuple[str, str]] = field(default_factory=set)
    used_layers: set[tuple[str, str]] = field(default_factory=set)
    upgraded: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def read(cls, store: LockStore, mode: LockMode, platform: str, *, run: str) -> Pins:
        """Read the lockfile. Raises LockfileError, also for a name to upgrade that it does not hold."""
        lockfile = store.read()
        _refuse_unknown_names(mode, lockfile, store.path.name)
        return cls(
            store=store,
            mode=mode,
            platform=platform,
            run=run,
            before=lockfile,
            lockfile=lockfile,
        )

    def use(self, layers: Iterable[PlannedLayer]) -> None:
        """Note that this run uses the records of these layers, before the first of them is resolved."""
        for layer in layers:
            if layer.base is not None and _unrecorded(layer.base) is None:
                self.used_bases.add((layer.root, self.platform))
            elif layer.dockerfile is not None:
                self.used_bases |= {(reference, self.platform) for reference in layer.dockerfile.references}
            elif layer.install is not None:
                self.used_layers.add((layer.definition, self.platform))

    def lacks(self, layer: PlannedLayer) -> bool:
        """Tell whether a layer leaves something open that must be resolved first."""
        if layer.base is not None:
            return self.known_base(layer) is None
        if layer.dockerfile is not None:
            return self.known_references(layer.dockerfile) is None
        return layer.install is not None and self.known_packages(layer) is None

    def known_base(self, layer: PlannedLayer) -> BasePin | None:
        """Return the recorded pin of a base layer; None if it must be resolved first."""
        unrecorded = _unrecorded(layer.base)
        if unrecorded is not None:
            return unrecorded
        return self._known_base(layer.root)

    def known_references(self, dockerfile: PlannedDockerfile) -> dict[str, BasePin] | None:
        """Return the recorded pins of the images that a Dockerfile takes; None if one must be resolved first."""
        pins = {reference: self._known_base(reference) for reference in dockerfile.references}
        known = {reference: pin for reference, pin in pins.items() if pin is not None}
        return known if len(known) == len(pins) else None

    def _known_base(self, reference: str) -> BasePin | None:
        record = self.lockfile.base(reference, self.platform)
        if record is None or (reference not in self.upgraded and self.mode.upgrades(reference)):
            return None
        return BasePin(digest=record.digest, source=record.source)

    def known_packages(self, layer: PlannedLayer) -> tuple[Pin, ...] | None:
        """Return the recorded pins of an install layer; None if they must be resolved first."""
        record = self.lockfile.layer(layer.definition, self.platform)
        if record is None:
            return None
        names = [pin.name for pin in record.packages]
        if layer.definition not in self.upgraded and self.mode.upgrades(*names):
            return None
        return record.packages

    def resolve_base(self, layer: PlannedLayer, ask: Callable[[], BasePin]) -> BasePin:
        """Return the pin of a base layer, asking for it where the lockfile has none, and record it."""
        return self._resolve_reference(layer, layer.root, ask)

    def resolve_references(self, layer: PlannedLayer, ask: Callable[[str], BasePin]) -> dict[str, BasePin]:
        """Return the pins of the images that a Dockerfile takes, by reference, as `resolve_base` does."""
        references = layer.dockerfile.references if layer.dockerfile else ()
        return {name: self._resolve_reference(layer, name, partial(ask, name)) for name in references}

    def _resolve_reference(self, layer: PlannedLayer, reference: str, ask: Callable[[], BasePin]) -> BasePin:
        self._reread()
        known = self._known_base(reference)
        if known:
            return known
        self._refuse_when_locked(layer)
        pin = ask()
        record = BaseRecord(reference=reference, platform=self.platform, source=pin.source, digest=pin.digest)
        self._change(lambda lockfile: lockfile.with_base(record))
        self._note(reference)
        return pin

    def resolve_packages(self, layer: PlannedLayer, install: Install, resolve: Resolver) -> tuple[Pin, ...]:
        """Return the pins of an install layer, resolving where the lockfile has none, and record them."""
        self._reread()
        known = self.known_packages(layer)
        if known is not None:
            return known
        self._refuse_when_locked(layer)
        # Every run reads pins, and few resolve any.
        from pytest_imagebuild.build.installs import tool_of  # noqa: PLC0415

        record = LayerRecord(
            id=layer.definition,
            base=layer.root,
            platform=self.platform,
            tool=tool_of(install).name,
            request=tool_of(install).request,
            packages=(),
        )
        pins = resolve(install, self._preferences(record))
        record = replace(record, packages=pins)
        self._change(lambda lockfile: lockfile.with_layer(record))
        self._note(layer.definition)
        return pins

    def unused(self) -> Lockfile:
        """Return the records of this platform that this run does not use."""
        return Lockfile(
            bases=tuple(
                item
                for item in self.lockfile.bases
                if item.platform == self.platform and (item.reference, item.platform) not in self.used_bases
            ),
            layers=tuple(
                item
                for item in self.lockfile.layers
                if item.platform == self.platform and (item.id, item.platform) not in self.used_layers
            ),
        )

    def prune(self) -> None:
        """Drop the records of this platform that this run does not use."""
        self._reread()
        unused = self.unused()
        self._change(lambda lockfile: lockfile.without(unused))

    def _reread(self) -> None:
        with self._guard:  # or an older reading of another thread could replace a newer one
            self.lockfile = self.store.read()
            if self.mode.upgrade:
                self.upgraded |= self.store.noted(self.run)

    def _note(self, resolved: str) -> None:
        self.upgraded.add(resolved)
        if self.mode.upgrade:
            self.store.note(self.run, resolved)

    def _change(self, update: Callable[[Lockfile], Lockfile]) -> None:
        with self._guard:
            self.lockfile = self.store.change(update)

    def _preferences(self, record: LayerRecord) -> tuple[Pin, ...]:
        """Return the pins to keep. They never come from what this run resolves, so its order does not matter."""
        if record.tool in _UNKEPT or (self.mode.upgrade and not self.mode.names):
            return ()
        kept = self.before.preferences(record, in_use=frozenset(identity for identity, _ in self.used_layers))
        return tuple(pin for pin in kept if not self.mode.upgrades(pin.name) and _fits(pin, record.request))

    def _refuse_when_locked(self, layer: PlannedLayer) -> None:
        if self.mode.locked:
            place = f" at {layer.where}" if layer.where else ""
            raise LockfileError(
                f"{self.store.path.name} has no record for {layer.title}{place} on {self.platform}, and --image-locked "
                "forbids to resolve it. Run once without --image-locked (or run `imagebuild lock`) and commit the "
                "lockfile."
            )


def _unrecorded(base: str | None) -> BasePin | None:
    """Return the pin of a base of which the lockfile says nothing: none at all, and what is this machine's own."""
    if base == SCRATCH:
        return BasePin(digest="", source="scratch")
    return BasePin(digest="", source="published") if published_name(base) is not None else None


def _fits(pin: Pin, request: Iterable[str]) -> bool:
    """Tell whether what is asked for directly leaves room for `pin`."""
    # Only a pin that is asked anew needs it.
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    for text in request:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        named = normal_name(asked.name) == pin.name
        if named and (asked.url or not asked.specifier.contains(pin.version, prereleases=True)):
            return False
    return True


def _refuse_unknown_names(mode: LockMode, lockfile: Lockfile, name: str) -> None:
    pinned = {pin.name for record in lockfile.layers for pin in record.packages}
    pinned |= {record.reference for record in lockfile.bases}
    unknown = sorted(mode.unknown(pinned))
    if mode.upgrade and unknown:
        raise LockfileError(
            f"{name} pins no package or base image named {', '.join(unknown)}, so it cannot be upgraded. Name one "
            "that it pins, or use --image-lock-upgrade alone for all."
        )

"""Pins: read from the lockfile; resolved and written where the lockfile has no record and may be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pytest_imagebuild.build.installs import tool_of
from pytest_imagebuild.build.lockstore import LockMode, LockStore
from pytest_imagebuild.engines.protocol import BasePin
from pytest_imagebuild.errors import LockfileError
from pytest_imagebuild.image.instructions import Install
from pytest_imagebuild.lockfile import BaseRecord, LayerRecord, Lockfile, Pin, normal_name
from pytest_imagebuild.plan.plan import PlannedLayer

__all__ = ["Pins"]

Resolver = Callable[[Install, tuple[Pin, ...]], tuple[Pin, ...]]
"""Resolves an install in the image below it, keeping the given pins where it can."""


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
            if layer.base is not None:
                self.used_bases.add((layer.root, self.platform))
            elif layer.install is not None:
                self.used_layers.add((layer.definition, self.platform))

    def lacks(self, layer: PlannedLayer) -> bool:
        """Tell whether a layer leaves something open that must be resolved first."""
        if layer.base is not None:
            return self.known_base(layer) is None
        return layer.install is not None and self.known_packages(layer) is None

    def known_base(self, layer: PlannedLayer) -> BasePin | None:
        """Return the recorded pin of a base layer; None if it must be resolved first."""
        record = self.lockfile.base(layer.root, self.platform)
        if record is None or (layer.root not in self.upgraded and self.mode.upgrades(layer.root)):
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
        self._reread()
        known = self.known_base(layer)
        if known:
            return known
        self._refuse_when_locked(layer)
        pin = ask()
        record = BaseRecord(reference=layer.root, platform=self.platform, source=pin.source, digest=pin.digest)
        self._change(lambda lockfile: lockfile.with_base(record))
        self._note(layer.root)
        return pin

    def resolve_packages(self, layer: PlannedLayer, install: Install, resolve: Resolver) -> tuple[Pin, ...]:
        """Return the pins of an install layer, resolving where the lockfile has none, and record them."""
        self._reread()
        known = self.known_packages(layer)
        if known is not None:
            return known
        self._refuse_when_locked(layer)
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
        if record.tool == "apt" or (self.mode.upgrade and not self.mode.names):
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

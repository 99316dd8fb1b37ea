"""Build what is missing of plans, from the deepest built ancestor up: one build per key, images side by side."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pytest_imagebuild.build.names import Names
from pytest_imagebuild.build.progress import Progress, Tally
from pytest_imagebuild.engines.gpus.leases import Leases, lock_folder
from pytest_imagebuild.engines.layers import BasePin, BuiltLayer, LayerLabels
from pytest_imagebuild.engines.uses import Uses, folder_name
from pytest_imagebuild.errors import DefinitionError, EngineError, ImageBuildError
from pytest_imagebuild.image.base_names import published_name
from pytest_imagebuild.plan.plan import Plan, PlannedLayer, base_layer

if TYPE_CHECKING:
    from pytest_imagebuild.build.maker import LayerMaker, LayerPins
    from pytest_imagebuild.build.pins import Pins
    from pytest_imagebuild.build.settings import BuildSettings
    from pytest_imagebuild.engines.protocol import Engine
    from pytest_imagebuild.engines.work import Work
    from pytest_imagebuild.plan.keys import KeyInputs

__all__ = ["ImageBuilder"]

T = TypeVar("T")

PARALLEL = 4
"""Images built side by side."""

_LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer of a plan and the built layer that it stands on."""

    plan: Plan
    layer: PlannedLayer
    parent: BuiltLayer | None

    @property
    def parent_key(self) -> str:
        return self.parent.labels.key if self.parent else ""

    @property
    def name(self) -> str:
        """Name this place for progress: the same for two images that share the layer."""
        # What a function does is no part of the definition, and two files of one name can have one of one name.
        return f"{self.layer.definition}:{self.layer.step}:{self.parent_key}"


@dataclass(frozen=True, slots=True)
class _Index:
    """Layers by their keys: those of the engine, and what this process made or found since."""

    engine: Mapping[str, BuiltLayer]
    made: dict[str, BuiltLayer] = field(default_factory=dict)

    def get(self, key: str) -> BuiltLayer | None:
        return self.made.get(key) or self.engine.get(key)

    def all(self) -> tuple[BuiltLayer, ...]:
        return tuple({**self.engine, **self.made}.values())


class ImageBuilder:
    """Builds plans on one engine during one run. Thread-safe."""

    def __init__(self, engine: Engine, pins: Pins, settings: BuildSettings, progress: Progress) -> None:
        self.engine = engine
        self.pins = pins
        self.settings = settings
        self.progress = progress
        self.tally = Tally()
        self._capabilities = engine.capabilities()
        self._guard = threading.Lock()
        self._uses = Uses(settings.cache_dir, self._capabilities.identity)
        self._names = Names(settings.cache_dir, self._capabilities.identity)
        self._mark = 0
        self._index: _Index | None = None
        self._ahead: threading.Thread | None = None
        self._counted: set[str] = set()
        self._explained: set[str] = set()
        self._failed: dict[str, ImageBuildError] = {}
        self.leases = Leases(lock_folder(settings.cache_dir, settings.environment))

    def build_all(self, plans: Sequence[Plan]) -> list[Future[BuiltLayer]]:
        """Build plans side by side; return their futures in order, all of them done.

        Plans that need nothing are answered from one look-up, without a thread.
        """
        for plan in plans:
            self.pins.use(plan.layers)
        return self._side_by_side(self.build, plans, self.warm_all(plans))

    def lock_all(self, plans: Sequence[Plan]) -> list[Future[None]]:
        """Record what the lockfile lacks of plans, side by side; return their futures in order, all of them done."""
        for plan in plans:
            self.pins.use(plan.layers)
        return self._side_by_side(self.lock, plans, [None] * len(plans))

    def lock(self, plan: Plan) -> None:
        """Record what the lockfile lacks of a plan, building only what resolving needs.

        Raises StepError, BaseImageError, LockfileError, EngineError.
        """
        lacking = [place for place, layer in enumerate(plan.layers) if self.pins.lacks(layer)]
        if lacking:
            top = lacking[-1]
            parent = self.build(replace(plan, layers=plan.layers[:top])) if top else None
            self._resolve(_Place(plan, plan.layers[top], parent))

    def _side_by_side(
        self, work: Callable[[Plan], T], plans: Sequence[Plan], answers: Sequence[T | None]
    ) -> list[Future[T]]:
        """Do the work of the plans that have no answer yet."""
        pool = ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="imagebuild")
        futures = [
            pool.submit(work, plan) if answer is None else _done(answer)
            for plan, answer in zip(plans, answers, strict=True)
        ]
        try:
            wait(futures)
        finally:
            # On Ctrl-C nobody waits here: closing the engine ends what still runs.
            pool.shutdown(wait=False, cancel_futures=True)
        return futures

    def warm(self, plan: Plan) -> BuiltLayer | None:
        """Return the top layer if everything is built and nothing is to be rebuilt; else None."""
        return self.warm_all([plan])[0]

    def warm_all(self, plans: Sequence[Plan]) -> list[BuiltLayer | None]:
        """Return for each plan what `warm` does, by one look-up and one claim for all."""
        tops: list[BuiltLayer | None] = []
        for plan, built in zip(plans, self._reusable(plans), strict=True):
            if len(built) < len(plan.layers):
                tops.append(None)
                continue
            for layer in built:
                self._count_reused(layer)
            self._used(plan, built[-1])
            tops.append(built[-1])
        return tops

    def build(self, plan: Plan) -> BuiltLayer:
        """Return the top layer of a plan, building what is missing above the deepest built one.

        Raises StepError, BaseImageError, LockfileError, EngineError.
        """
        self.pins.use(plan.layers)
        (reusable,) = self._reusable([plan])
        for built in reusable:
            self._count_reused(built)
        parent = reusable[-1] if reusable else None
        missing = plan.layers[len(reusable) :]
        if missing:
            self._refuse_unpublished(missing[0])
            self._explain(_Place(plan, missing[0], parent))
        for layer in missing:
            parent = self._make(_Place(plan, layer, parent))
        if parent is None:
            raise AssertionError("a plan has at least its base layer")
        self._used(plan, parent)
        return parent

    def look_ahead(self) -> None:
        """Begin to look up what is built, in a thread: an engine may take as long for it as a run does to collect."""
        self._ahead = threading.Thread(target=self._look_ahead, name="imagebuild-look-up", daemon=True)
        self._ahead.start()

    def _look_ahead(self) -> None:
        # Whoever needs it looks up again, and says what is wrong.
        with suppress(EngineError):
            self._look_up()

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other builders of this machine from what has this name, as digests of definitions are."""
        folder = self.settings.cache_dir / "locks" / folder_name(self._capabilities.identity)
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{self.settings.namespace}-" if self.settings.namespace else ""
        from filelock import FileLock  # noqa: PLC0415 - most runs build nothing

        with FileLock(folder / f"{prefix}{name}.lock"):
            yield

    def claimed(self, key: str, image: str) -> BuiltLayer | None:
        """Return the layer of a key, which stays while this builder is open; it is used now, as `image` says."""
        self._uses.claim([key])
        found = self.engine.find(key)
        if found is not None:
            self._uses.touch(key, image)
        return found

    def put(self, key: str, parent: BuiltLayer, work: Work, title: str) -> BuiltLayer:
        """Build a layer that is no part of a definition, or build it anew; no tally counts it.

        It stays while this builder is open. Raises CommandFailed, EngineError.
        """
        self._uses.claim([key])
        labels = LayerLabels(
            key=key,
            parent=parent.labels.key,
            generation="",
            run=self.settings.run,
            step=title,
            inputs={"generation": parent.labels.generation},
        )
        return self.engine.build(parent, work, labels, lambda _: None)

    def sweep(self) -> None:
        """Remove what dead runs of this machine left behind."""
        self.engine.sweep(self._uses.claimed())

    def close(self) -> None:
        """Let housekeeping remove again what was built and found here."""
        if self._ahead is not None:
            # An engine that is closed meanwhile would open again.
            self._ahead.join(_LOOK_SECONDS)
        self._uses.release()

    def _reusable(self, plans: Sequence[Plan]) -> list[list[BuiltLayer]]:
        """Return the built layers of each plan, from the base up to the first that is missing or to be rebuilt.

        They stay while this builder is open: housekeeping removes none that is claimed.
        """
        while True:
            index, mark = self._look_up()
            found = [self._found(plan, index) for plan in plans]
            # A throw-away layer is its run's own.
            keys = (layer.labels.key for built in found for layer in built)
            if self.settings.namespace or self._uses.claim(keys, mark):
                return found
            with self._guard:
                self._index = None

    def _used(self, plan: Plan, layer: BuiltLayer) -> None:
        if not self.settings.namespace:
            where = f", {plan.image.where}" if plan.image.where else ""
            self._uses.touch(layer.labels.key, f"{plan.image.label}{where}")

    def _found(self, plan: Plan, index: _Index) -> list[BuiltLayer]:
        """Return what is there of a plan."""
        built: list[BuiltLayer] = []
        for layer in plan.layers:
            place = _Place(plan, layer, built[-1] if built else None)
            name = published_name(layer.base)
            inputs = self._known_inputs(place) if name is None else None
            found = index.get(inputs.key) if inputs else self._published(name)
            if found is None or (name is None and self._must_rebuild(layer, found)):
                break
            built.append(found)
        return built

    def _published(self, name: str | None) -> BuiltLayer | None:
        """Return the layer that has a name: one of the cache proper, whatever this run keeps where."""
        key = self._names.all().get(name) if name is not None else None
        return self.engine.find(key) if key is not None else None

    def _refuse_unpublished(self, layer: PlannedLayer) -> None:
        name = published_name(layer.base)
        if name is None:
            return
        known = [one for one, key in self._names.all().items() if self.engine.find(key) is not None]
        bare = name.removesuffix(":latest")
        raise DefinitionError(
            f"from_name: no image named {name!r} is published on the {self._capabilities.engine} engine of this "
            f"machine, which has {', '.join(known) or 'none'}. Publish it first: build the image, `image.build()`, "
            f"then call `image.publish({bare!r})`.",
            where=layer.where,
        )

    def _look_up(self) -> tuple[_Index, int]:
        """Return the engine's index, with what this process added to it, and a mark from before it was looked up."""
        with self._guard:
            if self._index is None:
                self._mark = self._uses.mark()
                self._index = _Index(self.engine.layers(self.settings.namespace))
            return self._index, self._mark

    def _must_rebuild(self, layer: PlannedLayer, found: BuiltLayer) -> bool:
        forced = (self.settings.mode.force or layer.force) and not self.settings.mode.ignore_cache
        return forced and found.labels.run != self.settings.run

    def _known_inputs(self, place: _Place) -> KeyInputs | None:
        """Return what the layer's key is made of, if the lockfile says all that it must say."""
        layer = place.layer
        if layer.base is not None:
            base = self.pins.known_base(layer)
            return self._inputs(place, base) if base else None
        if layer.dockerfile is not None:
            references = self.pins.known_references(layer.dockerfile)
            return self._inputs(place, references) if references is not None else None
        if layer.install is not None:
            packages = self.pins.known_packages(layer)
            return self._inputs(place, packages) if packages is not None else None
        return self._inputs(place, None)

    def _inputs(self, place: _Place, pins: LayerPins) -> KeyInputs:
        return place.layer.inputs(
            builder=place.plan.builder.version,
            platform=self._capabilities.platform,
            parent=place.parent_key,
            generation=place.parent.labels.generation if place.parent else "",
            pins=pins,
        )

    def _explain(self, place: _Place) -> None:
        """Tell why a layer is missing, once for all images that share it."""
        with self._guard:
            if place.name in self._explained:
                return
            self._explained.add(place.name)
        inputs = self._known_inputs(place)
        if inputs is None:
            self.progress.missed(place.layer.title, "the lockfile has no record for it that may be used")
            return
        index, _ = self._look_up()
        if index.get(inputs.key) is not None:
            self.progress.missed(place.layer.title, "it is built anew by force")
        else:
            with self._guard:
                layers = index.all()  # other threads add to it
            from pytest_imagebuild.build.reasons import miss_reason  # noqa: PLC0415

            self.progress.missed(place.layer.title, miss_reason(place.layer.title, inputs, layers))

    def _make(self, place: _Place) -> BuiltLayer:
        """Build one layer under the lock of its definition, unless somebody else did, or failed to, meanwhile."""
        # The GPU first: who waits for one must hold no lock that somebody with a GPU could wait for.
        with self._lent(place) as gpus, self.locked(place.layer.definition):
            begun = time.monotonic()
            if place.name in self._failed:
                raise self._failed[place.name]
            if (known := self._made_meanwhile(place)) is not None:
                return known
            try:
                found, fresh = self._make_locked(place, gpus)
            except BaseException as error:
                if isinstance(error, ImageBuildError):
                    self._failed[place.name] = error
                self.progress.failed(place.name)
                raise
            # Before anybody who waits for the lock can count it as one that was there.
            if fresh:
                self._count_built(found, place, time.monotonic() - begun)
            else:
                self._count_reused(found)
                self.progress.reused(place.name)
        return found

    def _made_meanwhile(self, place: _Place) -> BuiltLayer | None:
        """Return what this run has made, and told of, for another image."""
        inputs = self._known_inputs(place)
        with self._guard:
            layer = self._index.made.get(inputs.key) if inputs and self._index else None
        return None if layer is None or self._must_rebuild(place.layer, layer) else layer

    def _make_locked(self, place: _Place, gpus: tuple[str, ...]) -> tuple[BuiltLayer, bool]:
        maker = replace(self._maker(place), gpus=gpus)
        output = partial(self.progress.said, place.name)
        self.progress.begun(place.name, place.plan.image.label, place.layer.title)
        pins = maker.resolve(place.layer, place.parent, output)
        inputs = self._inputs(place, pins)
        if not self.settings.namespace:
            self._uses.claim([inputs.key])
        found = self.engine.find(inputs.key, self.settings.namespace)
        if found and not self._must_rebuild(place.layer, found):
            return found, False
        labels = self._labels(place, inputs, found)
        return maker.make(place.layer, place.parent, pins, labels, output), True

    def _bases(self, plan: Plan, pins: Mapping[str, BasePin]) -> Mapping[str, BuiltLayer]:
        """Have the base images that a Dockerfile takes, as the layers that `from_registry` makes of them."""
        return {reference: self.build(replace(plan, layers=(base_layer(reference),))) for reference in pins}

    def _resolve(self, place: _Place) -> None:
        """Record what a layer leaves open, without building it."""
        with self.locked(place.layer.definition):
            if not self.pins.lacks(place.layer):
                return
            begun = time.monotonic()
            self.progress.begun(place.name, place.plan.image.label, place.layer.title)
            try:
                self._maker(place).resolve(place.layer, place.parent, partial(self.progress.said, place.name))
            except BaseException:
                self.progress.failed(place.name)
                raise
        self.progress.pinned(place.name, time.monotonic() - begun)

    def _maker(self, place: _Place) -> LayerMaker:
        # A run that builds nothing needs nothing of what builds, here and where it says why, or lends GPUs.
        from pytest_imagebuild.build.maker import LayerMaker  # noqa: PLC0415

        return LayerMaker(
            engine=self.engine,
            pins=self.pins,
            settings=self.settings,
            platform=self._capabilities.platform,
            builder=place.plan.builder,
            bases=partial(self._bases, place.plan),
        )

    def _labels(self, place: _Place, inputs: KeyInputs, replaced: BuiltLayer | None) -> LayerLabels:
        """Return the labels of a layer to be; one that replaces another gets a new generation."""
        return LayerLabels(
            key=inputs.key,
            parent=place.parent_key,
            generation=os.urandom(8).hex() if replaced else "",
            run=self.settings.run,
            namespace=self.settings.namespace,
            step=place.layer.title,
            inputs=inputs.to_dict(),
        )

    @contextmanager
    def _lent(self, place: _Place) -> Iterator[tuple[str, ...]]:
        """Lease the GPUs that a layer asks for. Raises DefinitionError at the user's line where there are none."""
        layer = place.layer
        if not layer.gpu:
            yield ()
            return
        from pytest_imagebuild.build.gpus import lent  # noqa: PLC0415

        with lent(self.engine.gpus(), layer, self.leases, partial(self.progress.said, place.name)) as gpus:
            yield gpus

    def _count_built(self, layer: BuiltLayer, place: _Place, seconds: float) -> None:
        with self._guard:
            if self._index is not None:
                self._index.made[layer.labels.key] = layer
            self._counted.add(layer.labels.key)
            self.tally.built += 1
            self.tally.seconds += seconds
        self.progress.built(place.name, seconds)

    def _count_reused(self, layer: BuiltLayer) -> None:
        with self._guard:
            if layer.labels.key in self._counted:
                return
            self._counted.add(layer.labels.key)
            if self._index is not None:
                self._index.made[layer.labels.key] = layer
            self.tally.reused += 1


def _done(answer: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(answer)
    return future

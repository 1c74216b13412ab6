"""What one worker does with one image: read, decode, forward, write; all the heavy work of a run happens here.

Several threads of a worker call `label` at once, so that decoding and writing of some images overlap the forward pass
of another. Only a receipt leaves the worker.
"""

import hashlib
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from hmsa_label.labelers.base import LabelerFault
from hmsa_label.labelers.taxonomy import class_difference
from hmsa_label.pipeline.config import DataConfig, TeacherConfig
from hmsa_label.pipeline.data.classes import classes_of, known_classes_of
from hmsa_label.pipeline.data.decode import decode_labels, decode_to_rgb, header_pixels
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.errors import DeviceLost, EngineError
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.reader import LabelReader
from hmsa_label.pipeline.label.forward_thread import AnyTeacher, ForwardThread
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.plan import usable_cores
from hmsa_label.pipeline.records import U8, Failure, LabeledImage, NetworkFailure
from hmsa_label.pipeline.teacher.cutting import cut_image
from hmsa_label.pipeline.teacher.errors import NonFiniteLogits
from hmsa_label.pipeline.teacher.user_code import UserCode, find_teacher
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.format.bounds import GROWN, GROWN_PX, MASK, POLYGON, Pixels
from hmsa_label.stores.format.cut import Cut
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import BadImage, ImageRef, check_name
from hmsa_label.stores.runs.segment import SegmentWriter

# Larger images pass one at a time: one of 2**27 pixels takes 1.5 GB from decoding to writing, beside its forward pass.
LARGE_PIXELS = 2**24
SEGMENT_ROWS = 4096  # a process that writes more begins another segment; folders stay easy to list


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """All that a worker is built from; small and picklable, it travels to other hosts.

    Attributes:
        devices: device of each worker, by its number.
        memory_share: of its device's memory that a worker may use, 0..1; None is its share of the host's CPUs.
        code: of a teacher that the workers' hosts lack.
    """

    data: DataConfig
    teacher: TeacherConfig | ImportConfig
    store: str
    keeping: Keeping
    devices: tuple[str, ...]
    batch_size: int = 1
    memory_share: float | None = 1.0
    code: UserCode | None = None
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)


def load_teacher(config: TeacherConfig, memory_share: float = 1.0, code: UserCode | None = None) -> AnyTeacher:
    """The teacher of a worker.

    Args:
        memory_share: of the device's memory that its passes may use, 0..1.
        code: of a teacher that this host lacks.

    Raises:
        FileNotFoundError: there is no such weights file.
        ValueError: the teacher, its weights or options, the device or the precision cannot be used.
    """
    from hmsa_label.pipeline.teacher.teacher import Teacher  # loads torch

    if code is not None:
        code.install()
        try:
            find_teacher(config.teacher)
        except ValueError as error:
            raise ValueError(
                f"{error}. A worker on {socket.gethostname()} has the file or package of the teacher, what this "
                "imports beside it, and what is installed there; install the rest on every host"
            ) from error
    return Teacher(config, memory_share)


class LabelWorker:
    """Labels images one by one; `label` may be called from several threads.

    Attributes:
        info: the teacher's provenance, with `classes`, `host` and `pid` of this worker.
    """

    def __init__(self, spec: WorkerSpec, number: int = 0) -> None:
        """Loads the teacher on the device of worker `number`.

        Raises:
            Exception: as `load_teacher` and `open_images` do.
        """
        self._spec = spec
        data = spec.data
        self._source = with_retries(
            f"opening {public_uri(data.root)}", lambda: open_images(data.dataset, data.root, data.storage_options)
        )
        self._maker = self._open_maker(spec, number)
        self._classes = self._maker.classes
        self.info: dict[str, Any] = {
            **self._maker.info,
            "classes": self._classes.to_dict(),
            "class_difference": self._class_difference(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._writers: dict[str, SegmentWriter] = {}
        self._opening = threading.Lock()
        self._large_ones = threading.Lock()

    def label(self, task: Task) -> Receipt | Failure:
        """The receipt of one image that is on storage now, or why the image cannot be labeled.

        Raises:
            DeviceLost: if this process cannot use its device any more.
            EngineError: if the storage stays away, or the teacher fails; no image is to blame for that.
            StoreError: if the store refuses the labels.
        """
        ref = task.image
        try:
            check_name(ref.image)
            data = with_retries(f"reading {ref.image}", lambda: self._source.read(ref.image))
        except BadImage as error:
            return Failure(key=ref.key, reason=str(error))
        with self._large_ones if header_pixels(data) > LARGE_PIXELS else nullcontext():
            return self._label(task, data)

    def _label(self, task: Task, data: bytes) -> Receipt | Failure:
        """`label` of an image whose file holds `data`."""
        ref = task.image
        source: dict[str, Any] = {"source_bytes": len(data), "source_sha256": hashlib.sha256(data).hexdigest()}
        try:
            decoded = decode_to_rgb(data)
        except BadImage as error:
            return Failure(key=ref.key, reason=str(error), **source)
        image = decoded.pixels
        try:
            drawn = self._drawn(ref, image)
            labeled, seconds = self._ask_teacher(ref, image)
        except NonFiniteLogits as error:
            return NetworkFailure(key=ref.key, reason=str(error))
        except BadImage as error:  # without the digest: other polygons, options or memory may cure it
            return Failure(key=ref.key, reason=str(error))
        made = self._cut(labeled, drawn)
        facts = ImageFacts(
            key=ref.key,
            source=ref.image,
            **source,
            converted=decoded.converted,
            device=", ".join(filter(None, (str(self.info["device"]), labeled.tiles))),
            mean_confidence=labeled.mean_confidence,
            seconds=seconds,
            instances=labeled.instances,
            **made.facts,
        )
        stored = self._spec.keeping.stored
        arrays = {name: pixels for name, pixels in {**labeled.arrays, **drawn}.items() if name in stored}
        return self._write(task.run_id, facts, {**arrays, **made.arrays})

    def close(self) -> None:
        """Lets the teacher go."""
        self._maker.close()

    def _open_maker(self, spec: WorkerSpec, number: int) -> ForwardThread | LabelReader:
        """What labels: a teacher in a thread of its own, or a reader of labels that were made elsewhere."""
        if isinstance(config := spec.teacher, ImportConfig):
            return with_retries(
                "reading the labels", partial(LabelReader, config, self._source, spec.keeping.thresholds)
            )
        teacher = replace(config, device=spec.devices[number])
        share = min(1.0, teacher.cpu_threads / usable_cores()) if spec.memory_share is None else spec.memory_share
        load = partial(load_teacher, teacher, share, spec.code)
        return ForwardThread(lambda: with_retries("loading the teacher", load), spec.keeping.wanted, spec.batch_size)

    def _drawn(self, ref: ImageRef, image: U8) -> dict[str, U8]:
        """[H, W] uint8 arrays of what people drew for the image: its polygons and their growth, the mask of the rule.

        Raises:
            BadImage: if something is there but unusable; the image counts as failed, for nobody would notice otherwise.
        """
        keeping, found = self._spec.keeping, {}
        if keeping.ego_mask is not None:
            found[MASK] = mask = keeping.ego_mask.pixels
            if mask.shape != image.shape[:2]:
                raise BadImage(f"the --ego-mask is of {_size(mask)} pixels, the image of {_size(image)}")
        if ref.coarse is None:
            return found
        raw = self._raw_polygons(ref, image)
        found[POLYGON] = polygon = self._polygon_ids[raw]
        if keeping.growth:
            void = (raw != 0) & (polygon == self._classes.ignore_index)  # drawn, of no class: nothing grows into it
            found[GROWN], found[GROWN_PX] = grow(image, polygon, void)
        return found

    def _raw_polygons(self, ref: ImageRef, image: U8) -> U8:
        """[H, W] uint8 ids of the polygons, as they are in the file.

        Raises:
            BadImage: if they cannot be used.
        """
        assert ref.coarse is not None
        path = ref.coarse
        try:
            raw = decode_labels(with_retries(f"reading {path}", lambda: self._source.read(path)))
        except BadImage as error:
            raise BadImage(f"coarse labels {path}: {error}") from None
        if raw.shape != image.shape[:2]:
            raise BadImage(f"coarse labels {path}: size {raw.shape} differs from the image's {image.shape[:2]}")
        return raw

    def _cut(self, labeled: LabeledImage, drawn: dict[str, U8]) -> Cut:
        """The label of an image by the rule, from what the teacher says and what people drew."""
        return cut_image(labeled, self._spec.keeping.rule, self._spec.keeping.wanted, self._classes, drawn)

    def _class_difference(self) -> str | None:
        """How the teacher's classes differ from those of the data, where the data tells its own."""
        classes = with_retries("reading the data's classes", lambda: known_classes_of(self._source))
        return None if classes is None else class_difference(self._classes, classes)

    @cached_property
    def _polygon_ids(self) -> U8:
        """[256] the teacher's trainId of each id in the data's label files; classes meet by name."""
        return self._classes.train_ids_from(classes_of(self._source))

    def _ask_teacher(self, ref: ImageRef, image: U8) -> tuple[LabeledImage, float]:
        """The evidence of an image, without a label yet, and the seconds that it took."""
        if isinstance(self._maker, LabelReader):
            return self._maker.label(ref, (image.shape[0], image.shape[1]))
        try:
            return self._maker.label(image)
        except (DeviceLost, BadImage, LabelerFault):
            raise
        except Exception as error:
            size = f"{image.shape[0]} x {image.shape[1]}"
            raise EngineError(
                f"the teacher failed on {ref.key} ({size} pixels): {type(error).__name__}: {error}"
            ) from error

    def _write(self, run_id: str, facts: ImageFacts, arrays: Mapping[str, Pixels]) -> Receipt:
        writer = self._writer(run_id)
        return with_retries(
            f"writing the labels of {facts.key}",
            lambda: writer.write(facts, arrays),
        )

    def _writer(self, run_id: str) -> SegmentWriter:
        """The writer of this process's own segment in a run; opened when the first image is ready."""
        with self._opening:
            if run_id not in self._writers:
                self._writers[run_id] = with_retries("opening the store", lambda: self._open_writer(run_id))
            return self._writers[run_id]

    def _open_writer(self, run_id: str) -> SegmentWriter:
        spec, keeping = self._spec, self._spec.keeping
        return SegmentWriter(
            spec.store,
            run_id,
            grid=keeping.thresholds if keeping.keeps_evidence else None,
            margins=keeping.margins if keeping.keeps_evidence else (),
            mask=None if keeping.ego_mask is None else keeping.ego_mask.pixels,
            rule=keeping.rule,
            capacity=SEGMENT_ROWS,
            storage_options=spec.storage_options,
        )


def _size(pixels: U8) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"

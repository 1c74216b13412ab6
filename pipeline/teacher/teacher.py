"""One teacher on one device: images in, hard labels and evidence out. Weights come from disk or any URL."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers.base import (
    DoesNotFit,
    Labeler,
    LabelerBase,
    LabelerFault,
    Part,
    Place,
    WeightsFile,
    in_one_part,
)
from hmsa_label.labelers.device_errors import is_out_of_memory, one_line
from hmsa_label.labelers.registry import is_built_in
from hmsa_label.pipeline.config import DISAGREEMENT, TOP2, TeacherConfig
from hmsa_label.pipeline.records import U8, Explanation, LabeledImage, Prediction, PredictionPart, Wanted
from hmsa_label.pipeline.rules import RuleConfig, refuse_unknown_classes
from hmsa_label.pipeline.teacher.cutting import cut_image, rule_for_one_image, wanted_for
from hmsa_label.pipeline.teacher.devices import (
    allowed_bytes,
    arithmetic,
    describe_device,
    dtype_of,
    resolve_device,
    resolve_precision,
    return_freed_memory,
)
from hmsa_label.pipeline.teacher.errors import images_to_blame
from hmsa_label.pipeline.teacher.evidence_kinds import refuse_evidence
from hmsa_label.pipeline.teacher.evidence_maps import EvidenceMaps
from hmsa_label.pipeline.teacher.forms import FORMS, check
from hmsa_label.pipeline.teacher.identity import teacher_settings
from hmsa_label.pipeline.teacher.instances import InstanceMaps
from hmsa_label.pipeline.teacher.semantics import check_classes, facts_of, load_semantics
from hmsa_label.pipeline.teacher.traits import classes_of, num_views_of, trait
from hmsa_label.pipeline.teacher.user_code import find_teacher
from hmsa_label.pipeline.teacher.weight_files import open_weights
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.format.evidence import level_of
from hmsa_label.stores.format.rule import Rule

P = ParamSpec("P")
R = TypeVar("R")
CUT_FROM = ("top1", "code")


def _with_own_arithmetic(method: Callable[Concatenate["Teacher", P], R]) -> Callable[Concatenate["Teacher", P], R]:
    """A method of a teacher that computes with its threads and precision, and leaves torch's settings as they were."""

    @wraps(method)
    def computing(teacher: "Teacher", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with arithmetic(teacher.device, teacher.precision, teacher.config.cpu_threads), images_to_blame():
            return method(teacher, *args, **kwargs)

    return computing


class Teacher:
    """Labels images of one size at a time; not thread-safe, to be called from one thread.

    torch's settings for the whole process (threads, TF32, random numbers) are found as they were after every call.

    Attributes:
        classes: the class table that labels refer to.
        has_instances: it tells instances of things apart. gives_probabilities: of all classes.
        info: JSON-able provenance: model, weights, their sha256, what the labeler tells of itself, how it looks at
            images, precision as resolved, device; `settings` is what decides the bytes of labels, as the record of a
            run holds it, `warnings` are lines for whoever starts one, `views` is how many predictions its own is from.
        trained_on: keys of the images with labels drawn by hand that the weights were trained on, as far as recorded.
    """

    def __init__(self, config: TeacherConfig, memory_share: float = 1.0) -> None:
        """Loads the weights on the device.

        Args:
            memory_share: of the device's memory, 0..1, where several teachers use it.

        Raises:
            FileNotFoundError: there is no such weights file.
            ValueError: the teacher, its weights or options, the device or the precision cannot be used.
        """
        self.config = config
        self.device = resolve_device(config.device)
        kind = find_teacher(config.teacher)
        precisions: tuple[str, ...] = getattr(kind, "precisions", LabelerBase.precisions)
        self.precision = resolve_precision(config.precision, self.device, precisions)
        if self.device.type == "cpu":
            return_freed_memory()
        self._semantics = load_semantics(config, kind, partial(Teacher, memory_share=memory_share))
        weights, sha256 = open_weights(config.weights)
        self._labeler = self._made(kind, weights, memory_share)
        self.classes = classes_of(self._labeler, config.teacher)
        check_classes(self.classes, self._semantics)
        self._gives = str(trait(self._labeler, "gives"))
        if self._gives not in FORMS:
            raise LabelerFault(f"the teacher {config.teacher}: gives must be one of {', '.join(FORMS)}")
        self._num_views = num_views_of(self._labeler, config.teacher)
        self.has_instances = FORMS[self._gives].has_instances
        self.gives_probabilities = FORMS[self._gives].probabilities is not None
        self._checks = not trait(self._labeler, "checks_itself")
        self.trained_on = frozenset(trait(self._labeler, "trained_keys"))
        if self._semantics is not None:
            self.trained_on |= self._semantics.trained_on
        self.info = self._described(sha256)

    def _made(self, kind: type, weights: WeightsFile | None, memory_share: float) -> Labeler:
        config = self.config
        load = getattr(kind, "load", None)
        if load is None and config.max_memory_gb is not None:
            raise ValueError(f"the teacher {config.teacher} keeps to no limit of memory; leave --max-memory away")
        allowed = partial(allowed_bytes, self.device, config.max_memory_gb, memory_share)
        place = Place(
            device=self.device, precision=self.precision, dtype=dtype_of(self.precision), allowed_bytes=allowed
        )
        make = partial(load, weights, place) if load is not None else partial(kind, weights, self.device)
        if self._semantics is not None:
            make = partial(make, semantics=self._semantics.probabilities)
        if is_built_in(config.teacher):
            return make(**config.options)
        try:
            return make(**config.options)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # anything that somebody's code may raise
            detail = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"the teacher {config.teacher} cannot be made: {detail}") from error

    def _described(self, weights_sha256: str | None) -> dict[str, Any]:
        config, other = self.config, self._semantics
        settings = teacher_settings(config, weights_sha256, None if other is None else other.info["weights_sha256"])
        about = {"model": config.teacher, "trained_on": None, **trait(self._labeler, "about")}
        sha256 = settings.pop("teacher_sha256")
        return {
            "model": about["model"],
            **({} if config.weights is None else {"weights": public_uri(config.weights)}),
            "weights_sha256": sha256,
            **about,
            **settings,
            **({} if other is None else {"semantics": facts_of(other)}),
            "precision": self.precision,
            "device": describe_device(self.device, config.cpu_threads),
            "settings": {"teacher_sha256": sha256, "model": about["model"], **settings, "precision": self.precision},
            "warnings": [*trait(self._labeler, "warnings"), *([] if other is None else other.info["warnings"])],
            "gives": self._gives,
            "views": self._num_views,
        }

    @_with_own_arithmetic
    @torch.inference_mode()
    def logits(self, images: list[U8]) -> Tensor:
        """What the labeler gives [N, K, H, W] float32, on its device, for N images [H, W, 3] uint8 RGB of one size.

        Raises:
            ValueError: it gives neither logits nor probabilities.
        """
        self._refuse_without_scores()
        batch = _batch(images)
        whole = torch.empty(len(images), self.classes.num_classes, *batch.shape[1:3], device=self.device)

        def copy(parts: Iterator[Part], cut: str | None) -> Tensor:
            for part in self._checked(parts, (batch.shape[1], batch.shape[2])):
                whole[part.images, :, part.rows, part.columns] = part.values  # type: ignore[assignment]
            return whole

        return self._in_parts(batch, copy)

    @_with_own_arithmetic
    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """Those of all classes, [N, K, H, W] float32 on the teacher's device, for images [N, H, W, 3] uint8 RGB.

        Raises:
            ValueError: the labeler keeps them to itself.
        """
        self._refuse_without_scores()
        probabilities, size = FORMS[self._gives].probabilities, (images.shape[1], images.shape[2])
        assert probabilities is not None
        whole = torch.empty(len(images), self.classes.num_classes, *size, device=self.device)

        def copy(parts: Iterator[Part], cut: str | None) -> Tensor:
            for part in self._checked(parts, size):
                whole[part.images, :, part.rows, part.columns] = probabilities(part.values)
            return whole

        return self._in_parts(images, copy)

    @_with_own_arithmetic
    @torch.inference_mode()
    def top1(self, image: U8) -> U8:
        """Arg-max trainIds [H, W] uint8 of an image [H, W, 3] uint8 RGB; its logits need not exist as a whole."""

        size = (image.shape[0], image.shape[1])

        def arg_max(parts: Iterator[Part], cut: str | None) -> U8:
            top1 = torch.empty(size, dtype=torch.uint8, device=self.device)
            for part in self._checked(parts, size):
                top1[part.rows, part.columns] = FORMS[self._gives].arg_max(part.values)[0].to(torch.uint8)
            return top1.cpu().numpy()

        return self._in_parts(_batch([image]), arg_max)

    @_with_own_arithmetic
    @torch.inference_mode()
    def explain(self, image: U8, rule: RuleConfig | None = None) -> Explanation:
        """How the prediction for an image [H, W, 3] uint8 RGB comes about, and what a rule keeps of it.

        Raises:
            ValueError: the rule cannot be used here.
        """
        asked, drawn = self._rule(rule or RuleConfig())
        explain = getattr(self._labeler, "explain", None)
        views = [] if explain is None else explain(_batch([image])[0])
        found = self._cut_one(image, asked, drawn)
        return Explanation(
            parts=[
                PredictionPart(
                    name=view.name, title=view.title, top1=view.top1.cpu().numpy(), share=view.share.cpu().numpy()
                )
                for view in views
            ],
            **vars(found),
        )

    def predict(
        self,
        image: U8,
        threshold: float | None = None,
        center_threshold: float | None = None,
        instance_threshold: float | None = None,
        *,
        rule: RuleConfig | None = None,
    ) -> Prediction:
        """What the teacher says of one image, [H, W, 3] uint8 RGB of any size; the labels that a run would store.

        Args:
            threshold: pixels whose confidence is below become ignore_index, 255; 0.9 if nothing is given.
            center_threshold, instance_threshold: so do the pixels of instances whose center score or mean confidence
                is below.
            rule: says all this and more, in their place. Polygons have no say here.

        Raises:
            ValueError: the array is no such image, or the rule cannot be used for it.
            BadImage: the image cannot be labeled, such as one that is too small for this teacher.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"an image is a NumPy array [height, width, 3] uint8 RGB; got {given}")
        own = RuleConfig(threshold=threshold, center_threshold=center_threshold, instance_threshold=instance_threshold)
        if rule is not None and not own.is_empty:
            raise ValueError("give a rule, or thresholds; a rule holds thresholds, too")
        return self._cut_one(np.ascontiguousarray(image), *self._rule(rule or own))

    def _rule(self, asked: RuleConfig) -> tuple[Rule, dict[str, U8]]:
        """A rule for one image that this teacher can follow, and its mask."""
        rule, drawn = rule_for_one_image(asked)
        self.check_rule(rule)
        refuse_unknown_classes(rule, self.classes.names)
        return rule, drawn

    def _cut_one(self, image: U8, rule: Rule, drawn: dict[str, U8]) -> Prediction:
        """What is predicted for an image, and the label that a rule makes of it."""
        wanted = wanted_for(rule)
        (found,) = self.evidence([image], wanted)
        return Prediction(
            label=cut_image(found, rule, wanted, self.classes, drawn).label,
            top1=found.arrays["top1"],
            confidence=found.arrays["confidence"],
            instance=found.arrays.get("instance"),
            instances=found.instances or (),
        )

    def check_rule(self, rule: Rule) -> None:
        """Refuses a rule that this teacher's labels cannot follow.

        Raises:
            ValueError: it is about instances, and the teacher tells none apart.
        """
        if rule.of_instances and not self.has_instances:
            raise ValueError(
                f"the teacher {self.config.teacher} tells no instances apart; leave --center-threshold and "
                "--instance-threshold away"
            )

    @_with_own_arithmetic
    @torch.inference_mode()
    def evidence(self, images: list[U8], wanted: Wanted) -> list[LabeledImage]:
        """What the teacher says of every pixel of images [H, W, 3] uint8 RGB of one size; no label is cut from it yet.

        Raises:
            ValueError: it cannot tell what is wanted.
            BadImage: an image cannot be labeled, such as one that is too large for the memory.
            NonFiniteLogits: the network gave NaN or infinite numbers for an image.
            LabelerFault: the labeler does not keep to the protocol.
        """
        refuse_evidence([TOP2] * (wanted.margins is not None) + [DISAGREEMENT] * wanted.disagreement, self.info)
        batch = _batch(images)
        return self._in_parts(batch, partial(self._gathered, batch, wanted), views=wanted.disagreement)

    def label(
        self,
        images: list[U8],
        thresholds: NDArray[np.float32],
        rule: Rule,
        keep_evidence: bool,
        *,
        margins: NDArray[np.float32] | None = None,
        disagreement: bool = False,
    ) -> list[LabeledImage]:
        """Hard labels of images [H, W, 3] uint8 RGB of one size, and their evidence.

        Args:
            thresholds: [T] float32 stored grid, ascending; holds the thresholds of the rule.
            rule: what it does not keep becomes ignore_index.
            keep_evidence: keep arg-max and code beside the labels. Instances are kept without it too.
            margins: [M] float32 stored grid of margins, ascending; with it the arrays have `top2` and `margin`.
            disagreement: the arrays have `disagreement`.

        Raises:
            ThresholdNotStored: a threshold of the rule is not on its grid.
            ValueError: the rule is about instances, and the teacher tells none apart; and as `evidence`.
            BadImage, LabelerFault: as `evidence`.
        """
        self.check_rule(rule)
        for threshold in rule.thresholds:  # before anything is computed
            level_of(threshold, thresholds.tolist())
        wanted = Wanted(thresholds=thresholds, margins=margins, disagreement=disagreement)
        labeled = []
        for found in self.evidence(images, wanted):
            made = cut_image(found, rule, wanted, self.classes)
            kept = {name: pixels for name, pixels in found.arrays.items() if keep_evidence or name not in CUT_FROM}
            labeled.append(replace(found, arrays={**made.arrays, **kept}))
        return labeled

    def _gathered(self, images: Tensor, wanted: Wanted, parts: Iterator[Part], tiles: str | None) -> list[LabeledImage]:
        count, height, width = images.shape[:3]
        evidence = EvidenceMaps((count, height, width), self.device, FORMS[self._gives], wanted)
        maps = InstanceMaps(count, (height, width)) if self.has_instances else None
        for part in self._checked(parts, (height, width), views=wanted.disagreement):
            evidence.take(part)
            if maps is not None:
                maps.take(part)
        gathered = []
        for index, arrays in enumerate(evidence.arrays()):
            instance, instances = (None, None) if maps is None else maps.of(index)
            told = {} if instance is None else {"instance": instance}
            mean = evidence.mean_confidence(index)
            gathered.append(
                LabeledImage(arrays={**arrays, **told}, mean_confidence=mean, tiles=tiles, instances=instances)
            )
        return gathered

    def _refuse_without_scores(self) -> None:
        if not self.gives_probabilities:
            raise ValueError(
                f"the teacher {self.config.teacher} gives {self._gives}, and no probabilities of all classes"
            )

    def _in_parts(self, images: Tensor, work: Callable[[Iterator[Part], str | None], R], views: bool = False) -> R:
        in_parts = getattr(self._labeler, "in_parts", None) or partial(in_one_part, self._labeler)
        try:
            result: R = in_parts(images, work, **({"views": True} if views else {}))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            height, width = images.shape[1:3]
            raise DoesNotFit(f"an image of {height} x {width} px ran out of memory ({one_line(error)})") from error
        return result

    def _checked(self, parts: Iterator[Part], size_px: tuple[int, int], *, views: bool = False) -> Iterator[Part]:
        for part in parts:
            if self._checks:
                try:
                    check(part, self._gives, self.classes, size_px, self._num_views if views else 0)
                except LabelerFault as error:
                    raise LabelerFault(f"the teacher {self.config.teacher}: {error}") from error
            yield part


def _batch(images: list[U8]) -> Tensor:
    """[N, H, W, 3] uint8; a single image is not copied, unless torch may not write to it."""
    if len(images) == 1 and images[0].flags.writeable:
        return torch.from_numpy(images[0])[None]
    return torch.from_numpy(np.stack(images))

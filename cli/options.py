"""Options, each written once. Their types and defaults come from the fields of the config dataclasses they fill."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Unpack

import click

from hmsa_label import (
    AugmentConfig,
    AutoLabels,
    CalibrateConfig,
    CoarseLabels,
    CompareConfig,
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    ExplainConfig,
    GuardConfig,
    HmsaLoss,
    HmsaOptions,
    ImportConfig,
    LabelConfig,
    ModelConfig,
    PanopticLoss,
    RayTrainConfig,
    RuleConfig,
    StoreConfig,
    TeacherConfig,
    TraceConfig,
    TrainConfig,
    TrunkLoss,
)
from hmsa_label.cli.command import Command
from hmsa_label.cli.given import (
    Setting,
    given_of,
    holds_config,
    name_of,
    parameter_of,
    refuse_given,
    teacher_options,
    the_one_asked_for,
)
from hmsa_label.cli.import_options import IMPORT
from hmsa_label.cli.parameters import Section, Word, admits_none, not_on_command_line, shown, type_of
from hmsa_label.cli.rule_options import BY_CLASS, RULE
from hmsa_label.cli.settings import OptionAttributes, SettingOption, use_settings_file
from hmsa_label.pipeline import (
    AUX_LOSSES,
    DATASETS,
    EVIDENCE,
    EXECUTORS,
    GUARDS,
    LOSSES,
    ON_ERROR,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
)

Function = Callable[..., None]


LOSS = ("objective", HmsaLoss)
PANOPTIC_LOSS = ("objective", PanopticLoss)
LOOK = ("options", HmsaOptions)
STORE_OPTIONS = "fsspec options of the store's storage; not on the command line."

# Heading in the help, and the options below it. Fields that hold another config are missing here.
SETTINGS: dict[type, tuple[str, tuple[Setting, ...]]] = {
    DataConfig: ("Data", (
        Setting("root", "--data", "Folder or URL of the images.", foreign=("CITYSCAPES_DATASET",)),
        Setting("dataset", "--dataset", "How the folder is laid out.", DATASETS),
        Setting("split", "--split", "Part of the data, such as train or train_extra; several as train,val."),
        Setting("limit", "--limit", "Take only the first N images."),
        Setting("storage_options", "--data-options", "fsspec options of the data's storage; not on the command line."),
    )),
    TeacherConfig: ("Teacher", (
        Setting("weights", "--weights", "Checkpoint of the teacher."),
        Setting("teacher", "--teacher", "Name of the teacher, or my_module:MyTeacher for a class of your own."),
        Setting("options", "--teacher-options", "Further options of the teacher; runs record them."),
        Setting("scales", "--scales", "Image scales, predicted one by one and fused; axial_deeplab: 1.0.", part=LOOK),
        Setting("flip", "--flip/--no-flip", "Average with the mirrored image.", part=LOOK),
        Setting("fusion", "--fusion", "How scales are fused.", HmsaOptions.FUSIONS, part=LOOK),
        Setting("semantic_from", "--semantic-from", "Checkpoint of another teacher that tells the classes."),
        Setting("semantic_teacher", "--semantic-teacher", "Name of that teacher."),
        Setting("semantic_settings", "--semantic-options", "Its options, such as scales; runs record them."),
        Setting("precision", "--precision", "Arithmetic; auto is bf16 on a GPU that has it, else fp32.", PRECISIONS),
        Setting("device", "--device", "auto, cpu, cuda or cuda:N."),
        Setting("cpu_threads", "--cpu-threads", "Threads of the model on a CPU."),
        Setting("max_memory_gb", "--max-memory", "GB that a pass may take; hmsa cuts larger images into tiles."),
    )),
    ImportConfig: ("Import", IMPORT),
    LabelConfig: ("Labels", (
        Setting("store", "--store", "Folder or URL of the label store; made on first use."),
        Setting("evidence", "--evidence",
                f"What to store for later changes of the rule: {', '.join(EVIDENCE)}; several as top2,growth."),
        Setting("coarse_labels", "--coarse-labels", "Label type of the polygons beside the images."),
        Setting("keys", "--keys", "Only these images: names or patterns with *, or @FILE with one per line."),
        Setting("only_new", "--only-new", "Also label images again whose files changed; compares their digests."),
        Setting("retry_failed", "--retry-failed", "Try failed images again though their files are the same."),
        Setting("relabel", "--relabel", "Label images again that the store already has, as a new version."),
        Setting("join", "--join", "Share the work of an equal run that is live, on this host or another one."),
        Setting("single_writer", "--single-writer", "Accept storage without put-if-absent; one run at a time."),
        Setting("storage_options", "--store-options", STORE_OPTIONS),
    )),
    RuleConfig: ("Rule", RULE),
    GuardConfig: ("Guard", (
        Setting("mode", "--guard", "If next to nothing is left of a class: warn, or end before the version.", GUARDS),
        Setting("against", "--guard-against", "JSON file of calibrate to compare with, beside polygons."),
    )),
    EngineConfig: ("Engine", (
        Setting("executor", "--executor", "Ray actors, or threads in this process.", EXECUTORS),
        Setting("workers", "--workers", "Teachers at work.  [default: one per GPU, or per CPU share]"),
        Setting("gpus_per_worker", "--gpus-per-worker", "GPUs of one teacher; 0.5 puts two on a GPU."),
        Setting("cpus_per_worker", "--cpus-per-worker", "Threads of one teacher on a machine without GPUs."),
        Setting("batch_size", "--batch-size", "Images of equal size predicted together; same labels on a CPU."),
        Setting("threads", "--threads", "Images in flight per teacher."),
        Setting("item_timeout", "--item-timeout", "Seconds without a result before a teacher counts as hung."),
        Setting("start_timeout", "--start-timeout", "Seconds after which a teacher that still loads counts as hung."),
        Setting("worker_timeout", "--worker-timeout", "Seconds without any teacher after which a run ends."),
        Setting("on_error", "--on-error", "Skip and name images that cannot be labeled, or end the run.", ON_ERROR),
        Setting("max_failures", "--max-failures", "End the run when more images than this cannot be labeled."),
        Setting("ray_address", "--ray-address", "Ray cluster to join; a local one is started otherwise.",
                foreign=("RAY_ADDRESS",)),
    )),
    ModelConfig: ("Model", (
        Setting("name", "--model", "Network to train."),
        Setting("init_weights", "--init-weights", "Checkpoint to start from: a teacher, or an ImageNet trunk."),
        Setting("new_class_heads", "--new-class-heads", "Do not take the class heads of --init-weights."),
    )),
    AugmentConfig: ("Augmentation", (
        Setting("crop_px", "--crop", "Size of a training crop, in pixels."),
        Setting("scale_range", "--scale-range", "Range of the random zoom."),
        Setting("flip", "--flip/--no-flip", "Mirror at random."),
        Setting("colour_jitter", "--colour-jitter", "Strength of random color changes."),
        Setting("blur_sigma_px", "--blur-sigma", "Range of the random blur, in pixels.  [default: off]"),
        Setting("class_uniform", "--class-uniform", "Share of crops centered on a class drawn uniformly."),
    )),
    TrainConfig: ("Training", (
        Setting("output", "--output", "Folder for checkpoints and the log."),
        Setting("val_split", "--val-split", "Split for validation."),
        Setting("labels", "--labels", "Label type to train on, such as gtFine."),
        Setting("mix", "--mix", "Share of each batch that is not finely labeled, where there is such data."),
        Setting("fine_tail", "--fine-tail", "Share of the steps, at the end, on fine labels alone."),
        Setting("loss", "--loss", "Region mutual information, or cross-entropy.", LOSSES, part=LOSS),
        Setting("low_scale", "--low-scale", "Second scale of two-scale training; none trains on one scale.",
                part=LOSS),
        Setting("aux_loss", "--aux-loss", "Loss of the auxiliary head; side is that of single scales.", AUX_LOSSES,
                part=LOSS),
        Setting("aux_weight", "--aux-weight", "Weight of the auxiliary head's loss.", part=LOSS),
        Setting("side_weight", "--side-weight", "Weight of each single scale's own loss.", part=LOSS),
        Setting("center_weight", "--center-weight", "Panoptic models: weight of the centers' loss.",
                part=PANOPTIC_LOSS),
        Setting("offset_weight", "--offset-weight", "Panoptic models: weight of the offsets' loss.",
                part=PANOPTIC_LOSS),
        Setting("top_share", "--top-share", "Panoptic models: share of pixels, the hardest, to learn classes from.",
                part=PANOPTIC_LOSS),
        Setting("center_sigma_px", "--center-sigma", "Panoptic models: sigma of the peak at a center, in pixels.",
                part=PANOPTIC_LOSS),
        Setting("small_weight", "--small-weight", "Panoptic models: factor of the loss in small instances.",
                part=PANOPTIC_LOSS),
        Setting("small_area_px", "--small-area", "Panoptic models: pixels below which an instance is small.",
                part=PANOPTIC_LOSS),
        Setting("drop_path", "--drop-path", "Panoptic models: probability of leaving out the last block of attention.",
                part=PANOPTIC_LOSS),
        Setting("stuff_area_px", "--stuff-area",
                "Panoptic models: pixels below which stuff is void.  [default: a 1024th of the image]",
                part=PANOPTIC_LOSS),
        Setting("center_kernel_px", "--center-kernel", "Panoptic models: side of the square of a center, in pixels.",
                part=PANOPTIC_LOSS),
        Setting("val_scales", "--val-scales", "Panoptic models: image scales that predictions are averaged over.",
                part=PANOPTIC_LOSS),
        Setting("optimizer", "--optimizer", "Optimizer.", OPTIMIZERS),
        Setting("learning_rate", "--lr", "Learning rate at the start."),
        Setting("momentum", "--momentum", "Momentum of SGD."),
        Setting("nesterov", "--nesterov/--no-nesterov", "Nesterov's momentum, for SGD."),
        Setting("weight_decay", "--weight-decay", "Weight decay."),
        Setting("schedule", "--schedule", "How the learning rate falls.", SCHEDULES),
        Setting("poly_power", "--poly-power", "Power of the learning rate's decay."),
        Setting("poly_by_epoch", "--poly-by-epoch", "Let the learning rate fall with every epoch, not every step."),
        Setting("warmup_steps", "--warmup-steps", "Steps of linear warm-up."),
        Setting("warmup_share", "--warmup-share", "Share of the steps with a linear warm-up, without --warmup-steps."),
        Setting("ema_decay", "--ema", "Decay of averaged weights, such as 0.999.  [default: off]"),
        Setting("epochs", "--epochs", "Passes over the data."),
        Setting("max_steps", "--max-steps", "Steps, in place of --epochs."),
        Setting("batch_size", "--batch-size", "Crops per step, over all processes."),
        Setting("accumulate", "--accumulate", "Passes that a process makes its crops of a step in, to save memory."),
        Setting("loader_workers", "--loader-workers", "Processes that prepare crops; 0 is this one."),
        Setting("precision", "--precision", "Arithmetic; auto is bf16 on a GPU that has it, else fp32.", PRECISIONS),
        Setting("device", "--device", "auto, cpu, cuda or cuda:N."),
        Setting("cpu_threads", "--cpu-threads", "Threads on a CPU.  [default: torch's own choice]"),
        Setting("seed", "--seed", "Seed of everything random."),
        Setting("validate_every", "--validate-every", "Steps between validations; 0 validates ten times in all."),
        Setting("save_every", "--save-every", "Steps between checkpoints."),
        Setting("tensorboard", "--tensorboard", "Write TensorBoard's files too; needs the extra 'tb'."),
        Setting("resume", "--resume", "Go on from the last checkpoint in --output."),
    )),
    TrunkLoss: ("Loss", (
        Setting("label_smoothing", "--label-smoothing", "Share of the target that goes to all classes."),
    )),
    AutoLabels: ("Auto labels", (
        Setting("store", "--store", "Folder or URL of the label store."),
        Setting("data", "--auto-data", "Root of the labeled images.  [default: --data, or where they were]"),
        Setting("dataset", "--auto-dataset", "How that root is laid out.  [default: as it was]", DATASETS),
        Setting("version", "--version", "Number or tag.  [default: the last finished version]"),
        Setting("threshold", "--threshold", "Another stored threshold.  [default: that of the labels]"),
        Setting("class_thresholds", "--class-thresholds", "Those of single classes in place of the labels' own.",
                kind=BY_CLASS),
        Setting("confidence_weight", "--confidence-weight", "Weight pixels by their confidence; needs --loss ce."),
        Setting("allow_leak", "--allow-leak", "Train although held-out images are trained on; this is recorded."),
        Setting("storage_options", "--store-options", STORE_OPTIONS),
        Setting("data_options", "--auto-data-options", "fsspec options of --auto-data; not on the command line."),
    )),
    CoarseLabels: ("Coarse labels", (
        Setting("split", "--coarse-split", "Split with coarse polygons to mix in, such as train_extra."),
        Setting("labels", "--coarse-labels", "Label type of the polygons."),
        Setting("limit", "--coarse-limit", "Take only the first N images with polygons."),
    )),
    RayTrainConfig: ("Ray cluster", (
        Setting("workers", "--train-workers", "Processes on a Ray cluster, a GPU each; 0 trains in this process."),
        Setting("ray_address", "--ray-address", "Ray cluster to join; a local one is started otherwise.",
                foreign=("RAY_ADDRESS",)),
    )),
    CompareConfig: ("Comparison", (
        Setting("arms", "--arms", "Of fine, coarse, auto.  [default: all that the data allows]"),
        Setting("seeds", "--seeds", "Seeds; every arm is trained once with each."),
        Setting("score_split", "--score-split", "Split to score the students on.  [default: that of --val-split]"),
        Setting("resamples", "--resamples", "Resamples of the bootstrap."),
        Setting("confidence", "--confidence", "Share of the resamples that an interval holds."),
    )),
    StoreConfig: ("Labels", (
        Setting("uri", "--store", "Folder or URL of the label store."),
        Setting("storage_options", "--store-options", STORE_OPTIONS),
    )),
    ExplainConfig: ("Picture", (
        Setting("output", "--output", "PNG file to write."),
    )),
    TraceConfig: ("Chain", (
        Setting("teacher", "--teacher", "Weights file of the teacher, if it is not where the run found it."),
        Setting("store", "--store", "Label store, if it is not where the student found it."),
        Setting("data", "--data", "Root of the fine images, if it is not where they were."),
        Setting("auto_data", "--auto-data", "Root of the labeled images, if it is not where they were."),
        Setting("deep", "--deep/--quick", "Read and hash every label and held-out image, or only their lists."),
        Setting("store_options", "--store-options", STORE_OPTIONS),
        Setting("data_options", "--data-options", "fsspec options of the data's storage; not on the command line."),
    )),
    EvaluateConfig: ("Evaluation", (
        Setting("labels", "--labels", "Label type to score against, such as gtFine."),
    )),
    CalibrateConfig: ("Calibration", (
        Setting("store", "--store", "Label store of the images, in place of --weights; several with commas."),
        Setting("fold_weights", "--fold-weights", "Further checkpoints like --weights, trained on other images."),
        Setting("labels", "--labels", "Label type to measure against, such as gtFine."),
        Setting("target_precision", "--target-precision",
                "Propose a threshold of each class that reaches it: 0.98, or a JSON file by class."),
        Setting("folds", "--folds", "Parts; thresholds are measured on each as chosen on the others."),
        Setting("resamples", "--resamples", "Resamples of the bootstrap."),
        Setting("confidence", "--confidence", "Share of the resamples that an interval holds."),
        Setting("allow_trained_on", "--allow-trained-on", "Count images that the teacher was trained on; is recorded."),
        Setting("output", "--output", "Folder for calibration.json and a page with curves.  [default: none]"),
        Setting("storage_options", "--store-options", STORE_OPTIONS),
    )),
}  # fmt: skip


def settings(
    config: type, into: str, *, skip: tuple[str, ...] = (), unless: str | None = None, **defaults: object
) -> Callable[[Function], Function]:
    """A decorator that adds a config's options and hands the command the finished config.

    Args:
        config: one of the dataclasses in `SETTINGS`. Configs nested in it are taken from the decorators above.
        into: name of the command's argument that gets it.
        skip: fields that stay at their default and get no option.
        unless: an option that takes the place of all of these, such as --store; where it is given, the config is None.
        defaults: defaults of this command where they differ from the dataclass.
    """
    section, table = SETTINGS[config]
    chosen = [setting for setting in table if setting.field not in skip]
    nested = [field.name for field in dataclasses.fields(config) if holds_config(field.type)]

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def with_config(**values: object) -> None:
            given = {setting: values.pop(parameter_of(setting)) for setting in chosen}
            if unless is not None and values[name_of(unless)]:
                refuse_given(chosen, unless)
                return function(**values, **{into: None})
            fields = {setting.field: value for setting, value in given.items() if setting.part is None}
            fields |= {name: values.pop(name) for name in nested if name in values}
            for name in dict.fromkeys(setting.part[0] for setting in chosen if setting.part is not None):
                own = {setting: value for setting, value in given.items() if setting.part and setting.part[0] == name}
                fields[name] = teacher_options(fields, own) if name in fields else the_one_asked_for(own)
            try:
                made = config(**fields)
            except ValueError as error:
                if unless is None or given_of(chosen) is not None:
                    raise
                raise ValueError(f"{error}, or {unless} in its place") from None
            return function(**values, **{into: made})

        decorated: Function = with_config
        for setting in reversed(chosen):
            decorated = _option(config, setting, section, defaults)(decorated)
        return decorated

    return decorate


def flag(
    name: str, description: str, *, section: str, **attributes: Unpack[OptionAttributes]
) -> Callable[[Function], Function]:
    """An option that belongs to no config, such as `--dry-run`."""
    return click.option(*name.split(), cls=SettingOption, help=description, section=section, **attributes)


def argument(name: str, *, required: bool = False) -> Callable[[Function], Function]:
    """A positional argument."""
    return click.argument(name, required=required)


def command(name: str, *, example: str) -> Callable[[Function], Command]:
    """A command with the options that all of them have: `--json`, `--config`, `--debug`, `--help`."""

    def decorate(function: Function) -> Command:
        function = flag("--debug", "Show the traceback of an error.", is_flag=True, expose_value=False,
                        callback=_keep_debug, is_eager=True, section="General")(function)  # fmt: skip
        function = flag("--config", "YAML file with values for options.", metavar="FILE", is_eager=True,
                        expose_value=False, callback=use_settings_file, section="General")(function)  # fmt: skip
        function = flag("--json as_json", "Print one JSON object.", is_flag=True, section="General")(function)
        return click.command(name, cls=Command, example=example)(function)

    return decorate


def _option(
    config: type, setting: Setting, section: str, defaults: dict[str, object]
) -> Callable[[Function], Function]:
    if not setting.flag.startswith("-"):
        return argument(parameter_of(setting), required=True)
    holder = config if setting.part is None else setting.part[1]
    field = next(field for field in dataclasses.fields(holder) if field.name == setting.field)
    default = defaults.get(field.name, field.default)
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    attributes: dict[str, object] = {"section": section, "foreign": setting.foreign, "help": setting.help}
    if field.type is bool:
        attributes |= {"is_flag": True, "default": default, "show_default": "/" in setting.flag}
    else:
        usual = field.default if default is None else default  # the word none is known where it is not what is meant
        attributes |= {"required": required, "admits_none": admits_none(field.type)}
        attributes["type"] = kind = _type(setting, field.type, usual)
        if isinstance(kind, Section):
            attributes |= {"default": "{}", "callback": not_on_command_line}
        elif not required:
            attributes |= {"default": None if default is None else shown(default, kind),
                           "show_default": default not in (None, (), {})}  # fmt: skip
    return click.option(parameter_of(setting), setting.flag, cls=SettingOption, **attributes)


def _type(setting: Setting, annotation: object, default: object) -> click.ParamType[object]:
    if setting.kind is not None:
        return setting.kind
    return Word(setting.choices) if setting.choices else type_of(annotation, default)


def _keep_debug(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta["debug"] = value
    return value

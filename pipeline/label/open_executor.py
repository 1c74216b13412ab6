"""Opens the executor that a run asks for: threads in this process, a Ray of our own, or somebody's cluster."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import LabelConfig, TeacherConfig
from hmsa_label.pipeline.engine.executor import Executor, LocalExecutor, Worker
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.plan import (
    Placement,
    cluster_address,
    images_in_flight,
    memory_share,
    place,
    usable_cores,
    visible_gpus,
)
from hmsa_label.pipeline.label.worker import LabelWorker, WorkerSpec
from hmsa_label.pipeline.teacher.user_code import UserCode, code_of
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.location import Location

ANY_RAY = {
    # Ray prints the deaths of workers to stdout, which belongs to results; they are events here. Skips all lines.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # After a minute without the head Ray ends the driver, with exit code 1; `ray_watch.py` is to be faster.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}
# For a Ray of our own; Ray reads them when it is imported or when it starts its processes.
OWN_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray puts workers at nice 15, where anything else on the machine starves their decoding threads.
    "RAY_worker_niceness": "0",
    # A node that is gone is noticed in 5 s instead of 15.
    "RAY_health_check_period_ms": "1000",
    # Ray binds its ports to all interfaces, and only this switch, made for desktops, to the loopback interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextmanager
def open_executor(config: LabelConfig, keeping: Keeping) -> Iterator[Executor]:
    """An executor whose workers are loading their teachers; all is ended on the way out.

    Raises:
        ValueError: if the devices asked for are not there.
        EngineError: if no cluster answers at the address.
    """
    with ExitStack() as stack:
        if config.engine.executor == "local":
            pool: Executor = _open_threads(config, keeping)
        else:
            pool = _open_ray(config, keeping, stack)
        stack.push(lambda kind, error, trace: pool.close(wait=kind is not KeyboardInterrupt))
        yield pool


def _open_threads(config: LabelConfig, keeping: Keeping) -> Executor:
    placement = place(config.engine, config.teacher, visible_gpus(config.teacher), usable_cores())
    build = partial(LabelWorker, _spec(config, keeping, placement))
    return LocalExecutor(build, len(placement.devices), images_in_flight(config.engine))


def _open_ray(config: LabelConfig, keeping: Keeping, stack: ExitStack) -> Executor:
    address = cluster_address(config.engine)
    for name, value in {**ANY_RAY, **(OWN_RAY if address is None else {})}.items():
        os.environ.setdefault(name, value)
    # Only now: Ray reads part of its environment when it is imported, and the local pool never needs it.
    from hmsa_label.pipeline.engine.ray_executor import ActorOptions, RayCluster, RayExecutor

    slots = (config.engine.workers or 0) * config.engine.cpus_per_worker
    cluster = stack.enter_context(RayCluster(address, max(usable_cores(), slots)))
    placement = place(config.engine, config.teacher, *cluster.resources())
    options = ActorOptions(
        num_gpus=placement.gpus_per_worker,
        num_cpus=placement.cpus_per_worker,
        threads=images_in_flight(config.engine),
    )
    # Without a number, Ray's hosts tell how many fit, now and when others join.
    build = partial(_build_anywhere, _spec(config, keeping, placement, _code_of(config.teacher)))
    return RayExecutor(build, config.engine.workers, options, is_own=cluster.is_own)


def _build_anywhere(spec: WorkerSpec, number: int) -> Worker:
    """A worker on Ray, perhaps one that joined late: each process sees its own GPU alone, as the same device."""
    from hmsa_label.pipeline.engine.ray_metrics import MeasuredWorker

    return MeasuredWorker(LabelWorker(replace(spec, devices=spec.devices[:1] * (number + 1)), number), number)


def _spec(config: LabelConfig, keeping: Keeping, placement: Placement, code: UserCode | None = None) -> WorkerSpec:
    """What workers are built from; local paths become absolute, because workers run in other folders."""
    return WorkerSpec(
        data=replace(config.data, root=_absolute(config.data.root)),
        teacher=_teacher_here(config),
        store=_absolute(config.store),
        keeping=keeping,
        devices=placement.devices,
        batch_size=config.engine.batch_size,
        memory_share=memory_share(config.engine, placement),
        code=code,
        storage_options=config.storage_options,
    )


def _teacher_here(config: LabelConfig) -> TeacherConfig | ImportConfig:
    teacher = config.teacher
    if isinstance(teacher, ImportConfig):
        images_json = None if teacher.images_json is None else _absolute(teacher.images_json)
        classes = teacher.classes
        if classes is not None and str(classes) != CITYSCAPES.name:
            classes = _absolute(classes)
        return replace(teacher, labels=_absolute(teacher.labels), images_json=images_json, classes=classes)
    return replace(
        teacher,
        weights=_weights_here(teacher.weights),
        semantic_from=_weights_here(teacher.semantic_from),
        cpu_threads=config.engine.cpus_per_worker,
    )


def _code_of(teacher: TeacherConfig | ImportConfig) -> UserCode | None:
    return None if isinstance(teacher, ImportConfig) else code_of(teacher)


def _weights_here(place: Location | None) -> Location | None:
    return place if place is None or ":" in str(place) else os.path.abspath(os.path.expanduser(place))


def _absolute(uri: Location) -> str:
    return str(uri) if "://" in str(uri) else public_uri(uri)

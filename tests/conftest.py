"""One Ray for the whole session, on the loopback interface, started only when a test asks for it; one torch thread."""

import os
from collections.abc import Iterator

import pytest

# Before torch is imported. A second thread gains little on small tensors, and two that share a busy core wait for each
# other: the golden parity took 25 s of CPU with one thread and 70 s with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray reads these when it is imported or when it starts its processes.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_DEDUP_LOGS_SKIP_REGEX=".",
    RAY_metrics_report_interval_ms="500",  # 10 s by default
)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of this process with four slots for workers; `label_images` uses it and leaves it open."""
    import ray

    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()

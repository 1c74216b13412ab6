"""What memory is left, from files as the kernel shows them."""

from pathlib import Path

import pytest

from hmsa_label.pipeline.teacher.available_memory import available_bytes, gpu_budget

GIB = 2**30


@pytest.fixture
def kernel(tmp_path: Path):
    """Writes files below `proc` and `groups`; 8 GiB of 16 are available."""

    def write(**files: str) -> tuple[Path, Path]:
        for name, text in {"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "proc", tmp_path / "groups"

    return write


def test_without_groups_it_is_what_the_machine_has_left(kernel):
    assert available_bytes(*kernel()) == 8 * GIB


def test_the_limit_of_a_container_counts_without_files_that_can_be_dropped(kernel):
    files = {
        "proc/self/cgroup": "0::/\n",
        "groups/memory.max": f"{4 * GIB}\n",
        "groups/memory.current": f"{3 * GIB}\n",
        "groups/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert available_bytes(*kernel(**files)) == 2 * GIB


def test_the_tightest_group_above_counts(kernel):
    files = {"proc/self/cgroup": "0::/pod/job/step\n"}
    for folder, limit in (("pod", str(3 * GIB)), ("pod/job", "max"), ("pod/job/step", str(6 * GIB))):
        files |= {f"groups/{folder}/memory.max": f"{limit}\n", f"groups/{folder}/memory.current": f"{GIB}\n"}
    assert available_bytes(*kernel(**files)) == 2 * GIB


def test_the_first_version_of_control_groups_counts_too(kernel):
    files = {
        "proc/self/cgroup": "5:devices:/\n4:cpu,memory:/docker/abc\n0::/\n",
        "groups/memory/docker/abc/memory.limit_in_bytes": f"{2 * GIB}\n",
        "groups/memory/docker/abc/memory.usage_in_bytes": f"{GIB}\n",
        "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "groups/memory/memory.usage_in_bytes": f"{GIB}\n",
    }
    assert available_bytes(*kernel(**files)) == GIB


def test_a_path_of_another_namespace_falls_back_to_the_group_at_the_root(kernel):
    files = {
        "proc/self/cgroup": "0::/kubepods/pod1\n",
        "groups/memory.max": f"{GIB}\n",
        "groups/memory.current": f"{GIB // 2}\n",
    }
    assert available_bytes(*kernel(**files)) == GIB // 2


def test_nothing_left_is_nothing_and_not_less(kernel):
    files = {
        "proc/self/cgroup": "0::/\n",
        "groups/memory.max": f"{GIB}\n",
        "groups/memory.current": f"{2 * GIB}\n",
    }
    assert available_bytes(*kernel(**files)) == 0


def test_here_it_is_a_figure():
    assert available_bytes() > 0


def test_two_teachers_on_one_gpu_never_count_the_same_memory():
    alone = gpu_budget(free=80 * GIB, total=80 * GIB, own=0, share=1.0)
    first = gpu_budget(free=79 * GIB, total=80 * GIB, own=GIB, share=0.5)
    second = gpu_budget(free=78 * GIB, total=80 * GIB, own=GIB, share=0.5)
    assert alone == pytest.approx(72 * GIB)
    assert first == second == pytest.approx(0.9 * 39 * GIB)
    assert gpu_budget(free=10 * GIB, total=80 * GIB, own=GIB, share=0.5) == pytest.approx(9 * GIB)
    assert gpu_budget(free=GIB, total=2 * GIB, own=2 * GIB, share=0.5) == 0

"""Which device and which arithmetic: decided once, written down, never changed silently."""

import ctypes
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext

import torch

from hmsa_label.pipeline.teacher.available_memory import CPU_SHARE, available_bytes, gpu_budget

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The torch device for `auto` (first CUDA device, else CPU) or an explicit name.

    Raises:
        ValueError: a CUDA device was asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name} was asked for, but torch sees no CUDA device; use --device cpu")
    return device


def count_gpus() -> int:
    """CUDA devices that this process sees."""
    return torch.cuda.device_count()


def resolve_precision(name: str, device: torch.device, known: Collection[str] = tuple(_DTYPES)) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is bf16 on a CUDA device that computes in it, else fp32.

    Args:
        known: precisions that the network can compute in.

    Raises:
        ValueError: one that it cannot; fp16 on a CPU, where torch has no useful half-precision convolutions.
    """
    if name == "auto":
        fast = "bf16" in known and device.type == "cuda" and has_bf16(torch.cuda.get_device_capability(device))
        return "bf16" if fast else "fp32"
    if name not in known:
        raise ValueError(f"this teacher computes in {', '.join(known)}, not in {name}; leave --precision away")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    return name


def has_bf16(capability: tuple[int, int]) -> bool:
    """Whether a CUDA device of this compute capability computes in bfloat16; earlier ones emulate it, slowly."""
    return capability >= (8, 0)


def dtype_of(precision: str) -> torch.dtype:
    """The torch dtype of a resolved precision."""
    return _DTYPES[precision]


class _ExactConvolutions:
    """Convolutions on a GPU without TF32, for as long as anybody needs them; then as they were.

    The setting is the process's, and several teachers compute in threads of it.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa are not what fp32 says
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                torch.backends.cudnn.allow_tf32 = self._before


_EXACT_CONVOLUTIONS = _ExactConvolutions()


@contextmanager
def arithmetic(device: torch.device, precision: str, cpu_threads: int | None) -> Iterator[None]:
    """What a network computes with, inside alone: the threads of a CPU, and no TF32 where fp32 was said."""
    if device.type == "cuda":
        with _EXACT_CONVOLUTIONS if precision == "fp32" else nullcontext():
            yield
        return
    before = torch.get_num_threads()
    try:
        if cpu_threads not in (None, before):
            torch.set_num_threads(cpu_threads)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def return_freed_memory() -> None:
    """Makes freed tensors of 1 MiB and more go back to the system, where the C library allows that.

    glibc otherwise keeps blocks of up to 32 MiB, and a pass leaves holes that no other map fits into: twice the
    resident memory for the same speed. Other C libraries have no such setting and nothing changes.
    """
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 2**20)


def describe_device(device: torch.device, cpu_threads: int) -> str:
    """The device as a person would name it, for provenance."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}"
    return f"cpu, {cpu_threads} threads"


def allowed_bytes(device: torch.device, max_memory_gb: float | None, share: float) -> float:
    """What a pass may take beside the model that is loaded.

    Args:
        max_memory_gb: as asked for, 10**9 bytes; None is a share of what is there now.
        share: of the device's memory, 0..1, where several teachers use it.
    """
    if max_memory_gb is not None:
        return max_memory_gb * 1e9
    if device.type != "cuda":
        return share * CPU_SHARE * available_bytes()
    free, total = torch.cuda.mem_get_info(device)
    return gpu_budget(free, total, torch.cuda.memory_reserved(device), share)

"""Errors of devices, by the texts that torch gives them, and which devices compute in bfloat16."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.device_errors import is_device_lost, is_out_of_memory, one_line
from hmsa_label.pipeline.teacher.devices import has_bf16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((2**40,), np.dtype(np.uint8)),
    ],
)
def test_too_little_memory_is_told_under_all_its_names_and_is_no_lost_device(error):
    assert is_out_of_memory(error)
    assert not is_device_lost(error)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA driver error: unspecified launch failure",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    ],
)
def test_a_lost_device_is_told_whichever_library_notices(text):
    assert is_device_lost(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError(
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"
        ),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("weights for a CUDA error: of another network"),
    ],
)
def test_what_no_new_process_would_mend_is_neither(error):
    assert not is_device_lost(error)
    assert not is_out_of_memory(error)


def test_errors_of_many_lines_become_one():
    assert one_line(RuntimeError("CUDA error:\n  device-side assert\n\ntriggered")) == (
        "CUDA error: device-side assert triggered"
    )
    assert one_line(MemoryError()) == "MemoryError"


@pytest.mark.parametrize(("capability", "expected"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_is_taken_only_where_the_card_computes_in_it(capability, expected):
    assert has_bf16(capability) is expected

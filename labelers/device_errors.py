"""What a device did wrong: too little memory, a device that this process has lost, or neither.

Told by types' names and texts, because these questions are also asked where torch is not loaded. The texts are those of
torch, cuDNN and cuBLAS; the same fault comes under several of them.
"""

TOO_LITTLE_MEMORY = (
    "out of memory",
    "can't allocate memory",  # torch on a CPU, Linux
    "not enough memory",  # torch on a CPU, elsewhere
    "bad_alloc",
    "STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",  # of cuDNN: none has room for its workspace
)
FROM_THE_DEVICE = ("CUDA error", "CUDA driver error", "cuDNN error", "cuBLAS error", "CUDNN_STATUS_", "CUBLAS_STATUS_")
# What every process would be told: the build of torch does not fit the card, or the call is wrong.
REFUSALS = (
    "no kernel image is available",
    "device kernel image is invalid",
    "invalid device ordinal",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_BAD_PARAM",
    "CUDNN_STATUS_ARCH_MISMATCH",
    "CUBLAS_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ARCH_MISMATCH",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the same work in smaller pieces might succeed."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _says(error, TOO_LITTLE_MEMORY)
    )


def is_device_lost(error: BaseException) -> bool:
    """Whether only a new process can use the device again, such as after an illegal memory access."""
    if is_out_of_memory(error) or _says(error, REFUSALS):
        return False
    return type(error).__name__ == "AcceleratorError" or _says(error, FROM_THE_DEVICE)


def one_line(error: BaseException) -> str:
    """The error's text on one line of at most 300 characters; torch's go over many."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)

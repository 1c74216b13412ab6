"""What ends a run early though no image is to blame."""


class EngineError(RuntimeError):
    """Labeling cannot go on, for a reason outside the images; finished images are kept, the same command resumes."""


class DeviceLost(EngineError):
    """The process can use its device no longer, such as after an illegal memory access; a new process can."""

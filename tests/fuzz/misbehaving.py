"""A target that does all that no input may do, one thing for each seed."""

import os
import time
from pathlib import Path

import numpy as np


class Target:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, seed: int) -> None:
        if seed == 1:
            raise KeyError("lost")
        if seed == 2:
            os._exit(3)
        if seed == 3:
            time.sleep(1000)
        if seed == 4:
            np.ones(50_000_000, np.uint8)

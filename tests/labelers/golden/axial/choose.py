"""Chooses the arrays that lie beside this file from the whole set: `python choose.py FOLDER_OF_THE_WHOLE_SET`."""

import gzip
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CHOSEN = (
    r"layer\.(w21s2|h16s2|K1|thin)\.(input|output)$",
    r"layer\.w21s2\.mid\.(similarity_before_bn|weights|retrieved_after_bn)$",
    r"axial26s\.(layer1\.every4|logits)$",
)


def main(whole: Path) -> None:
    arrays = np.load(whole / "golden_public.npz")
    chosen = {name: arrays[name] for name in arrays.files if re.match("|".join(CHOSEN), name)}
    np.savez_compressed(HERE / "arrays.npz", **chosen)
    table = (whole / "state_dict.tsv").read_bytes()
    (HERE / "state_dict.tsv.gz").write_bytes(gzip.compress(table, mtime=0))
    (HERE / "cases.json").write_bytes((whole / "cases.json").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

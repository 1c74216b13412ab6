"""Chooses the arrays that lie beside this file from the whole set: `python choose.py WHOLE.npz FOLDER_OF_TSV`."""

import gzip
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLES = ("state_dict.tsv", "state_dict_r50_hier.tsv", "state_dict_r50_expl_bn.tsv", "state_dict_r50_expl.tsv")
CHOSEN = (
    r"weights_sum$",
    r"[abcd]/(case|x_head)$",
    r"d/",  # odd sides: every output of one scale, the chain of 2, 3 and 4 scales, the mirror image
    r"c/ms[23]_",  # a batch of two, with the labels that the threshold leaves
    r"b/avgpool3_",  # the mean over scales
    r"a/ms_|a/two_scale",  # each scale of a chain on its own, and the training graph
    r"r50/",
    r"train/",
    r"rmi/",
)


def main(whole: Path, tables: Path) -> None:
    arrays = np.load(whole)
    chosen = {name: arrays[name] for name in arrays.files if re.match("|".join(CHOSEN), name)}
    np.savez_compressed(HERE / "arrays.npz", **chosen)
    for name in TABLES:
        (HERE / f"{name}.gz").write_bytes(gzip.compress((tables / name).read_bytes(), mtime=0))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

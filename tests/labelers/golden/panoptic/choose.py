"""Chooses the arrays that lie beside this file from the whole set: `python choose.py FOLDER_OF_THE_SET`."""

import json
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WHOLE = ("golden_public.npz", "golden_post_public.npz")
CHOSEN = (
    r"decoder\.(in\.|out\.(center|offset))",
    r"post\.(plateau|majority_tie|no_center|stuff_limit|topk\d|foreground)\.",
    r"target\.",
    r"loss\.(center|offset)",
    r"pq\.",
)


def main(folder: Path) -> None:
    whole = {name: array for file in WHOLE for name, array in np.load(folder / file).items()}
    chosen = {name: array for name, array in whole.items() if re.match("|".join(CHOSEN), name)}
    chosen["decoder.out.semantic.every4"] = whole["decoder.out.semantic"][:, :, 1::4, 1::4]
    np.savez_compressed(HERE / "arrays.npz", **chosen)
    lines = (folder / "state_dict.tsv").read_text().splitlines()
    kept = [line for line in lines if line.startswith("decoder.")]
    (HERE / "decoder.tsv").write_text("\n".join([lines[0], *kept]) + "\n")
    cases = json.loads((folder / "cases_post.json").read_text())
    (HERE / "cases.json").write_text(json.dumps(cases, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Make the figures of docs/examples.md: `python docs/make_example_figures.py` trains for some minutes, `... adding` does one.

Needs the extra `data`. Every example that takes several seeds gets five.
"""

import os
import runpy
import sys
from pathlib import Path

import matplotlib

DOCS = Path(__file__).parent
EXAMPLES = {
    "reber": ["--seeds", "5"],
    "adding": ["--seeds", "5"],
    "seed_classifier_adam": ["--seeds", "5"],
    "characters": [],
    "sunspots": [],
    "digits": [],
}


def main(names: list[str]):
    matplotlib.rcParams["svg.hashsalt"] = "tinygrad_rnn"  # this and no date: the same numbers give the same bytes
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    sys.path.insert(0, str(DOCS.parent / "examples"))
    for name in names or EXAMPLES:
        example = runpy.run_path(str(DOCS.parent / "examples" / f"{name}.py"))
        example["main"]([*EXAMPLES[name], "--figure", str(DOCS / "pictures" / f"example_{name}.svg")])


if __name__ == "__main__":
    main(sys.argv[1:])

"""Writes the numbers of a short quickstart to tests/golden/staircase.json: `golden_staircase.py`.

tests/test_staircase.py compares them, so that no change of data, model or training passes unseen.
"""

import json
import sys
import tempfile
from pathlib import Path

from places import GOLDEN
from quickstart import Quickstart

COMMAND = "PYTHONPATH=tests/helpers python tests/golden/golden_staircase.py"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        quickstart = Quickstart(Path(directory) / "repository")
        if not quickstart.run():
            sys.exit(quickstart.said[-6000:])
        (GOLDEN / "staircase.json").write_text(json.dumps(quickstart.numbers(), indent=1) + "\n")


if __name__ == "__main__":
    main()

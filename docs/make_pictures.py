"""Make the pictures of the README and of docs/: `python docs/make_pictures.py` runs the pages' own code in docs/pictures/."""

import os
import re
from contextlib import redirect_stdout
from pathlib import Path

import tinygrad_rnn as tg

DOCS = Path(__file__).parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main():
    pages = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    (DOCS / "pictures").mkdir(exist_ok=True)
    os.chdir(DOCS / "pictures")
    for text in texts:
        code = "\n".join(BLOCK.findall(text))
        if ".save(" in code:
            tg.manual_seed(0)
            with redirect_stdout(None):
                exec(code, {"__name__": "__main__"})
    print(*sorted(path.name for path in Path().glob("*.svg")), sep="\n")


if __name__ == "__main__":
    main()

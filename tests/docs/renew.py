"""Writes what code makes in the documentation: tables, examples and the answers of the command.

    .venv/bin/python tests/docs/renew.py        look at the difference before you commit it
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from docs import pages, transcript
from docs.made import make
from servers import moto_server


def main() -> None:
    for page in (*pages.PAGES, *pages.DESIGN):
        text = pages.with_made(pages.read(page), make)
        if "```console" in text:
            with moto_server() as server, TemporaryDirectory() as folder:
                text = transcript.renewed(page, text, server, Path(folder))
        (pages.ROOT / page).write_text(text, "utf-8")


if __name__ == "__main__":
    main()

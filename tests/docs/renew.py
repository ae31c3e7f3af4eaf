"""Writes the generated parts of the documentation: tables, examples, drawings and the answers of the command.

`make docs` runs it. Review the difference before you commit it.
"""

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from docs.made import make
    from docs.warm_command import warm_command
    from servers import moto_server

    from docs import pages, schemas, transcript
    from website import diagrams

    for path, text in diagrams.files().items():
        path.write_text(text, "utf-8")
    for name in schemas.SCHEMAS:
        schemas.path_of(name).write_text(schemas.text_of(name), "utf-8")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with moto_server() as server, TemporaryDirectory() as warm, warm_command(Path(warm)) as command:
        for page in (*pages.PAGES, *pages.DESIGN):
            text = pages.with_made(pages.read(page), make)
            if pages.blocks(page, "console"):
                with TemporaryDirectory() as folder:
                    text = transcript.renewed(page, text, server, Path(folder), command)
            (ROOT / page).write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""The command line: ``deepfeatures COMMAND`` or ``python -m deepfeatures COMMAND``."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from deepfeatures.cli.parser import parser
from deepfeatures.errors import EXPECTED, sentence
from deepfeatures.settings import workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        The arguments; by default those of the process.

    Returns
    -------
    int
        0, or 1 after a failure with one sentence on stderr (wrong usage ends with 2).
    """
    args = parser().parse_args(argv)
    try:
        data, text = args.run(args, workspace(getattr(args, "home", None)))
        output = json.dumps(data, indent=2) if getattr(args, "json", False) else text
        if output:
            sys.stdout.write(f"{output}\n")
            sys.stdout.flush()
    except BrokenPipeError:  # for example `| head`; nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on where this one stopped\n")
        return 1
    except EXPECTED as error:
        sys.stderr.write(f"deepfeatures: {sentence(error)}\n")
        return 1
    return 0


def entry() -> None:
    """Run the command line as a program of its own."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # advice of libraries is for developers
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("deepfeatures").setLevel(logging.WARNING)
    sys.exit(main())


if __name__ == "__main__":
    entry()

"""``python -m app``: serve the page of a workspace."""

from __future__ import annotations

import argparse
import sys
import warnings

from app import serve
from deepfeatures import errors, settings


def main() -> int:
    """Read the arguments and serve; 1 after a failure with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, help="port (PORT, else 5006)")
    parser.add_argument("--home", help="workspace (DEEPFEATURES_HOME, else ./workspace)")
    args = parser.parse_args()
    try:
        ws = settings.workspace(args.home)
        serve(ws, host=args.host, port=args.port or settings.port())
    except errors.EXPECTED as error:
        sys.stderr.write(f"{errors.sentence(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # advice of libraries is for developers
    sys.exit(main())

"""The log of the server: one JSON object in a line, on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
_LOUD = ("bokeh", "panel", "tornado")


class Lines(logging.Formatter):
    """Writes a record as JSON: time, level, name, message, what was counted, and a trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line of a record."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at,
            "level": record.levelname.lower(),
            "name": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def start() -> None:
    """Log from now on: warnings, or what ``DEEPFEATURES_LOG`` says.

    Raises
    ------
    ValueError
        If that is no level.
    """
    level = os.environ.get("DEEPFEATURES_LOG") or "warning"
    if level not in LEVELS:
        raise ValueError(f"DEEPFEATURES_LOG is {level!r}; choose one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _LOUD:  # what they say about each page is ours to say
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bokeh.server.util").setLevel(logging.ERROR)  # the gate looks at hosts

"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LINES = 10
"""So many plain lines are written for a piece of work, and one at its beginning."""


@contextmanager
def shown(
    label: str, *, unit: str = "tile", stream: TextIO | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Give a callable ``(done, total)`` that shows the progress on `stream` (stderr).

    Parameters
    ----------
    label
        What is going on, in a word or two.
    unit
        What is counted.
    stream
        Where to show it; results go to stdout, so that they can be piped.
    """
    target = stream or sys.stderr
    if target.isatty():
        with _bar(label, unit, target) as report:
            yield report
    else:
        yield _lines(label, unit, target)


@contextmanager
def _bar(label: str, unit: str, stream: TextIO) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=label, unit=unit, file=stream, dynamic_ncols=True) as bar:

        def report(done: int, total: int) -> None:
            if done < bar.n:  # a second piece of work under the same label
                bar.reset()
            if bar.n == 0 and done > 1:  # resumed: what was there is no part of the rate
                bar.initial = done - 1
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _lines(label: str, unit: str, stream: TextIO) -> Callable[[int, int], None]:
    began = last = time.monotonic()
    first, before, told = 0, -1, 0

    def report(done: int, total: int) -> None:
        nonlocal began, last, first, before, told
        if done < before or before < 0:  # the beginning, or a second piece of work
            # what was there before a resume is no part of the rate
            began, first, told = last, max(done - 1, 0), 0
        before, last = done, time.monotonic()
        if done * LINES < told * total:
            return
        told = done * LINES // max(total, 1) + 1
        rate = (done - first) / max(last - began, 1e-3)
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        stream.write(f"{label}: {done}/{total} {unit}s, {rate:.2g} {unit}s/s{left}\n")
        stream.flush()

    return report

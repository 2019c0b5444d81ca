"""The event loop of the real server while jobs and exports run beside an open page."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from benchmarks import soak
from deepfeatures.settings import workspace

HELD_MS, OFTEN_MS = 1000.0, 250.0
"""Longest that the loop may be held here, once and in one of a hundred looks.

The goal is 50 ms, which ``python benchmarks/soak.py --probe`` measures on a quiet machine. On two
busy cores the system leaves the server out for longer than that now and then. Work that is done on
the loop by mistake holds it for longer still, and in most looks: the loop is looked at whenever it
is free, so not before each export, of half a second and more, has ended.
"""


def test_jobs_and_exports_never_hold_the_event_loop(demo_home: Path, tmp_path: Path) -> None:
    """An area is embedded, a UMAP fitted and exports downloaded while a page is open.

    How late the loop was is measured inside it. Building of a page is left out: it holds the loop
    for some tenths of a second, and is over here before the measurement begins. The UMAP is
    cancelled after some seconds: it compiles itself for longer than a test may take.
    """
    home = tmp_path / "home"
    shutil.copytree(demo_home, home)
    lags: dict[str, dict[str, float]] = {}

    async def visit(root: str) -> dict[str, object]:
        page = soak.Session(root, soak.Watch())
        await page.open()
        await soak.quiet(root)
        with soak.lateness(root, lags, "work"):
            done = await soak.work(root, "demo", workspace(home), 2.0)
        await page.close()
        return done

    with soak.served(home) as (root, _):
        done = asyncio.run(visit(root))
    assert done["embedding"] == "done"
    assert done["umap"] in ("done", "cancelled")
    assert done["exported_mb"] > 1
    assert lags["work"]["count"] > 100
    assert lags["work"]["p99"] < OFTEN_MS, lags
    assert lags["work"]["max"] < HELD_MS, lags

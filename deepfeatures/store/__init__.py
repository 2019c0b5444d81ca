"""Cubes as Zarr v3: layout, resumable writing tile by tile, lazy reading, on disk or on S3.

A pixel series and a map tile must both be quick from one store, so inner chunks are balanced
(some dates x one channel x 64 x 64 px, all features of a feature cube together) and lie in
shards of the full time axis. Whole shards are written, in any order; a journal beside the store
remembers which tiles are done, so that a killed writer resumes and gives the same bytes. The
root attribute ``complete`` turns true last; only then may a catalogue list the store.

Where a path works, ``s3://bucket/name.zarr`` works as well: the same objects with the same bytes.
Keys and the endpoint come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_ENDPOINT_URL``, ...).
"""

from deepfeatures.store.layout import CODED, DATES, EDGE, edge
from deepfeatures.store.opening import READING, arrays, configured, factors, open, pipeline, token
from deepfeatures.store.overviews import OVERVIEW_FROM, Coarse, coarsen
from deepfeatures.store.places import remote, remove
from deepfeatures.store.writer import Writer, counted, write

__all__ = [
    "CODED",
    "Coarse",
    "DATES",
    "EDGE",
    "OVERVIEW_FROM",
    "READING",
    "Writer",
    "arrays",
    "coarsen",
    "configured",
    "counted",
    "edge",
    "factors",
    "open",
    "pipeline",
    "remote",
    "remove",
    "token",
    "write",
]

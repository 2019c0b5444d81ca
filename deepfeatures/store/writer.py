"""Writing a store tile by tile: resumable, from any worker, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr

from deepfeatures import contract
from deepfeatures.store import layout, metadata, places
from deepfeatures.store.opening import WRITING, arrays, configured, pipeline
from deepfeatures.store.overviews import Coarse, channel_slices, representable, write_overviews
from deepfeatures.tiles import Tile, split

_PLAN = "plan"
_OWN = ("complete", "version")


@dataclass(frozen=True)
class Writer:
    """Writes one store tile by tile; make it with `Writer.create`.

    It holds no open file, so threads, processes and Dask workers may each have a copy: different
    tiles never touch the same object.
    """

    url: str
    """Where the store is."""
    tiles: tuple[Tile, ...]
    """The tiles of the store, each a whole number of shards."""

    @classmethod
    def create(cls, url: str, template: xr.Dataset, plan: str = "") -> Writer:
        """Start a store, or resume it if the same plan was begun there before.

        Parameters
        ----------
        url
            Path or URL of the store.
        template
            The cube with all coordinates, attributes and small variables; of the variables on
            the grid only name, dimensions, type, attributes and encoding are used.
        plan
            Words that tell this content from any other (inputs, versions, seeds). If the same
            content is there already, nothing is left to do; if another was begun but not
            completed, it is dropped.

        Raises
        ------
        ValueError
            If the template breaks the cube contract, or another complete cube is there.
        """
        contract.check(template)
        version = layout.version(template, plan)
        shape = template.sizes["y"], template.sizes["x"]
        writer = cls(str(url), tuple(split(shape, layout.square(template))))
        if writer._begun() == version:
            return writer
        there = _complete_version(writer.url)
        if there == version[:12]:
            return writer
        if there is not None:
            raise ValueError(
                f"there is another cube at {url}; remove it first or choose another name"
            )
        places.delete(places.journal(writer.url))
        places.delete(writer.url)
        blank = template.assign_attrs(complete="false", version=version[:12])
        metadata.write(blank, writer.url)
        places.put(writer._note(_PLAN), version)
        return writer

    def pending(self) -> list[Tile]:
        """Give the tiles that are still to be written."""
        if self._begun() is None:
            return []
        done = places.names(places.journal(self.url))
        return [tile for tile in self.tiles if tile.name not in done]

    def write(self, tile: Tile, block: xr.Dataset, report: str | Callable[[], str] = "") -> None:
        """Write a tile: all variables of `block` that lie on the grid.

        Lazy variables are computed one channel at a time.

        Parameters
        ----------
        tile
            One of `tiles`.
        block
            The cube in the core of the tile. Numbers that already are of the stored integer type
            are written as they are, others are coded (scale, offset, fill value).
        report
            A short text on how it went (JSON of lost assets, for instance), kept for `reports`;
            of what is computed while it is written a function that gives it afterwards.
        """
        group = self._group()
        for name, array in block.data_vars.items():
            if {"y", "x"} <= set(array.dims):
                self._write_variable(group, str(name), array, tile)
        places.put(self._note(tile.name), report() if callable(report) else report)

    def reports(self) -> dict[str, str]:
        """Give what `write` was told of the tiles that are written, by the name of the tile.

        Tiles without a word are left out; after `finish` there are none.
        """
        notes = places.texts(places.journal(self.url))
        return {tile.name: notes[tile.name] for tile in self.tiles if notes.get(tile.name)}

    def finish(self, attrs: Mapping[str, str] | None = None, coarse: Coarse | None = None) -> None:
        """Make the overviews and declare the store complete; harmless when done before.

        Parameters
        ----------
        attrs
            Further attributes of the cube, written in the step that makes it complete. They
            enter the version, which then is that of the plan, ``-`` and a checksum of them.
        coarse
            Makes the main array of the overviews; the means of the full grid by default.

        Raises
        ------
        ValueError
            If tiles are missing, or an attribute is one of the store's own.
        """
        missing = self.pending()
        if missing:
            raise ValueError(f"{self.url} lacks {len(missing)} of {len(self.tiles)} tiles")
        version = self._begun()
        if version is None:
            return
        more = dict(attrs or {})
        if set(more) & set(_OWN):
            raise ValueError(f"the attributes {', '.join(_OWN)} are the store's own; rename yours")
        if more:
            words = json.dumps(more, sort_keys=True)
            more["version"] = f"{version[:12]}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"
        group = self._group()
        with places.reached(self.url):
            write_overviews(group, pipeline(self.url), self._writing("si" in group), coarse)
            group.update_attributes({**more, "complete": "true"})
        # The plan goes first: without it what is left of a journal means nothing.
        places.delete(self._note(_PLAN))
        places.delete(places.journal(self.url))

    def _begun(self) -> str | None:
        """Give the version that is being written, None if nothing is."""
        return places.get(self._note(_PLAN))

    def _note(self, name: str) -> str:
        return f"{places.journal(self.url)}/{name}"

    def _group(self) -> zarr.Group:
        with places.reached(self.url):
            return zarr.open_group(places.zarr_store(self.url), mode="r+", zarr_format=3)

    def _target(self, group: zarr.Group, name: str) -> Any:
        """Give an array to write to; indices on the local disk with the quicker pipeline.

        They are the only arrays of which more is written than computing them costs. The pipeline
        has one thread, so that it gives the same bytes each time.
        """
        with places.reached(self.url), configured(self._writing(name == "si")):
            return group[name]

    def _writing(self, quick: bool) -> dict[str, Any]:
        return dict(WRITING) if quick and not places.remote(self.url) else {}

    def _write_variable(
        self, group: zarr.Group, name: str, array: xr.DataArray, tile: Tile
    ) -> None:
        """Write the part of a variable that lies in a tile, shard by shard."""
        target = self._target(group, name)
        packed = {key: target.attrs[key] for key in layout.FACTORS if key in target.attrs}
        encoding: dict[str, Any] = {}
        if packed and array.dtype != target.dtype:
            encoding = packed | {"dtype": target.dtype, "_FillValue": target.fill_value}
        lead = array.shape[:-2]
        for index in channel_slices(lead, layout.together(name, target)):
            values = _coded(array[index] if index else array, target, encoding)
            with places.reached(self.url):
                target[(*index, *tile.core)] = values


def write(
    ds: xr.Dataset,
    url: str,
    plan: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a whole cube, tile by tile; resumes if the same plan was begun there before.

    Parameters
    ----------
    ds
        Cube under the contract, lazy or in memory.
    url
        Path or URL of the store.
    plan
        See `Writer.create`.
    progress
        Called with tiles done and tiles in all.
    """
    writer = Writer.create(url, ds, plan)
    for tile in counted(writer, progress):
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns))
    writer.finish()


def counted(writer: Writer, progress: Callable[[int, int], None] | None = None) -> Iterator[Tile]:
    """Walk over the pending tiles of a writer and tell the progress after each."""
    pending = writer.pending()
    total = len(writer.tiles)
    done = total - len(pending)
    for tile in pending:
        yield tile
        done += 1
        if progress is not None:
            progress(done, total)


def _coded(part: xr.DataArray, target: Any, encoding: dict[str, Any]) -> np.ndarray:
    """Give the numbers to be stored for a part of a variable."""
    values = np.asarray(part.values)
    if encoding:
        values = np.clip(values, *representable(target))
        plain = xr.Variable(part.dims, values, encoding=encoding)
        values = xr.conventions.encode_cf_variable(plain).values
    return np.asarray(values, dtype=target.dtype)


def _complete_version(url: str) -> str | None:
    """Give the version of the plan of a complete store, None if there is none."""
    try:
        return str(arrays(url).attrs["version"]).split("-")[0]
    except FileNotFoundError:
        return None

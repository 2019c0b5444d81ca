"""What a view of the map holds: the histogram of its values, and the one under the pointer."""

from __future__ import annotations

from typing import Any

from deepfeatures import reading
from deepfeatures.serve.base import Base

MAX_CHANNELS = 16
"""Channels whose values one question may ask for."""


class Histogram(Base):
    """``/api/cubes/{name}/histogram``."""

    async def get(self, name: str) -> None:
        """Send bins, counts, percentiles 2 and 98, extremes and usable share of a view."""
        self.answer(
            await self.quick(
                self._count, name, self.text("channel"), self.text("time"), self._box()
            )
        )

    head = get

    def _box(self) -> reading.Bounds | None:
        parts = self.names("bbox")
        if parts is None:
            return None
        try:
            west, south, east, north = (float(part) for part in parts)
        except ValueError:
            raise ValueError("bbox must be west,south,east,north in degrees") from None
        if not (-360 <= west < east <= 360 and -90 <= south < north <= 90):
            raise ValueError("bbox must be west,south,east,north in degrees, west below east")
        return west, south, east, north

    def _count(
        self, name: str, channel: str, time: str, box: reading.Bounds | None
    ) -> dict[str, Any]:
        cube = self.context.cube(name)
        channel = channel or cube.channels[0]
        found = reading.histogram(cube, channel, reading.step(cube, time), box)
        return {
            "cube": name,
            "channel": channel,
            "edges": found.edges,
            "counts": found.counts,
            "p2": found.percentiles[0],
            "p98": found.percentiles[1],
            "min": found.range[0],
            "max": found.range[1],
            "usable": found.usable,
            "level": found.level,
        }


class Value(Base):
    """``/api/cubes/{name}/value``."""

    async def get(self, name: str) -> None:
        """Send the values of some channels at one pixel and date; 204 outside the cube."""
        lon, lat = self.number("lon"), self.number("lat")
        if lon is None or lat is None:
            raise ValueError("give lon and lat in degrees")
        channels = self.names("channels") or []
        if len(channels) > MAX_CHANNELS:
            raise ValueError(f"{len(channels)} channels are too many; ask for {MAX_CHANNELS}")
        found = await self.quick(self._read, name, channels, self.text("time"), lon, lat)
        if found is None:
            self.set_status(204)
            self.finish()
        else:
            self.answer(found)

    head = get

    def _read(
        self, name: str, channels: list[str], time: str, lon: float, lat: float
    ) -> dict[str, Any] | None:
        cube = self.context.cube(name)
        reading.checked(cube, channels)
        t = reading.step(cube, time)
        found = reading.point(cube, channels or cube.channels[:1], t, lon, lat)
        if found is None:
            return None
        values, usable = found
        day = str(cube.times[t].astype("datetime64[D]"))
        return {"cube": name, "time": day, "usable": usable, "values": values}

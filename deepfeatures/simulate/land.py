"""The land: river and lake, forest stands, field parcels, a town, a mine, and what befalls them.

Everything is a function of the seed and of the edge of the grid; lengths are shares of the edge,
so that a small landscape still holds every class. The places of the large things are jittered,
then the whole is turned or mirrored, so that two seeds give two landscapes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial import cKDTree

from deepfeatures.simulate.noise import fractal, smoothstep, stream

CLASSES = (
    "none", "beech", "spruce", "pine", "winter_wheat", "maize", "meadow", "bare_soil", "water",
    "town", "mine",
)  # fmt: skip
"""Land cover at the start; the position is the value of ``label_class``."""
EVENTS = ("none", "tree_mortality", "logging", "mining")
"""Events; the position is the value of ``truth_event``."""
BEECH, SPRUCE, PINE, WHEAT, MAIZE, MEADOW, BARE, WATER, TOWN, MINE = range(1, 11)
GARDEN, ROOF, ASPHALT, HALL = range(4)
"""Surfaces of the town."""
NEVER = 2**20
"""Day of an event that does not happen."""


@dataclass(frozen=True, eq=False)
class Land:
    """Maps (y, x) of a landscape."""

    label: np.ndarray
    """Class at the start, index into `CLASSES`, uint8."""
    elevation: np.ndarray
    """Elevation [m], float32."""
    parcel: np.ndarray
    """Number of the field parcel or forest stand, int32."""
    vigour: np.ndarray
    """Stand age and site quality as a factor on leaf area, about 1, float32."""
    timing: np.ndarray
    """Shift of the phenology by site and genotype, standard normal, float32."""
    brightness: np.ndarray
    """Brightness of the soil, 0..1, float32."""
    capacity: np.ndarray
    """Water capacity of the soil relative to the canopy's usual one, float32."""
    texture: np.ndarray
    """Fine texture of the canopy (crowns, rows), standard normal, float32."""
    surface: np.ndarray
    """Surface in the town (garden, roof, asphalt, hall), uint8."""
    event: np.ndarray
    """What befalls the pixel, index into `EVENTS`, uint8."""
    event_day: np.ndarray
    """Day of the event after the start (negative: before it), `NEVER` if none, int32."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """Coordinates of a landscape under construction."""

    size: int
    u: np.ndarray
    v: np.ndarray
    seed: int

    def noise(self, key: int, largest: float, smallest: float = 0.0) -> np.ndarray:
        """Give a fractal field; wavelengths are shares of the edge, at least two pixels."""
        rng = stream(self.seed, "layout", key)
        shortest = max(smallest * self.size, 2.0)
        field = fractal(rng, 2 * self.size, largest=largest * self.size, smallest=shortest)
        return field[: self.size, : self.size]


def layout(seed: int, size: int, *, days: int, mortality_day: int, logging_day: int) -> Land:
    """Lay out a landscape.

    Parameters
    ----------
    seed
        Seed of the landscape.
    size
        Edge of the grid [px].
    days
        Length of the simulated period; the mine advances through all of it.
    mortality_day, logging_day
        Day on which the first trees die and day of the logging, both after the start.
    """
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    plain = _Frame(size, *np.meshgrid(steps, steps), seed)
    # Warped coordinates make every outline organic.
    bent = _Frame(
        size, plain.u + 0.012 * plain.noise(0, 0.6, 0.2),
        plain.v + 0.012 * plain.noise(1, 0.6, 0.2), seed,
    )  # fmt: skip
    frame = _Frame(
        size, bent.u + 0.009 * plain.noise(15, 0.18, 0.025),
        bent.v + 0.009 * plain.noise(16, 0.18, 0.025), seed,
    )  # fmt: skip
    jitter = stream(seed, "layout", 99)
    label, parcel, surface = _cover(frame, bent, jitter)
    river = _river_distance(bent, seed)
    front = _mine_front(frame, days)
    label[(front < 0) & (label != WATER)] = MINE
    event, event_day = _events(frame, label, parcel, front, mortality_day, logging_day)
    made = Land(
        label=label, parcel=parcel, surface=surface, event=event, event_day=event_day,
        elevation=_elevation(frame, river, event_day, event, label),
        **_site(frame, label, parcel),
    )  # fmt: skip
    return _turn(made, int(jitter.integers(8)) if seed else 0)


def _cover(
    frame: _Frame, bent: _Frame, jitter: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label, parcel = _fields(bent)
    river = _river_distance(bent, frame.seed)
    label[river < 0.03 + 0.010 * frame.noise(2, 0.25, 0.03)] = MEADOW
    _forest(frame, label, parcel, river)
    surface = np.zeros(label.shape, np.uint8)
    _town(frame, bent, label, surface, jitter)
    lake = np.hypot((frame.u - 0.66) / 0.085, (frame.v - 0.60) / 0.045) < 1
    label[(river < max(0.008, 0.6 / frame.size)) | lake] = WATER
    return label, parcel, surface


def _river_line(u: np.ndarray, seed: int) -> np.ndarray:
    phase = stream(seed, "layout", 98).uniform(0, 2 * np.pi, 2) if seed else np.array([0.6, 2.1])
    bend = 0.055 * np.sin(2 * np.pi * 1.1 * u + phase[0])
    return 0.66 + bend + 0.02 * np.sin(2 * np.pi * 3.1 * u + phase[1])


def _river_distance(frame: _Frame, seed: int) -> np.ndarray:
    u = np.linspace(-0.2, 1.2, 1400)
    tree = cKDTree(np.column_stack([u, _river_line(u, seed)]))
    distance, _ = tree.query(np.column_stack([frame.u.ravel(), frame.v.ravel()]))
    return distance.reshape(frame.u.shape).astype(np.float32)


def _cells(frame: _Frame, key: int, across: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the nearest of jittered points for each pixel and the points (u, v)."""
    rng = stream(frame.seed, "parcels", key)
    count = int(round(1.4 / across))
    grid = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2)
    points = (grid + rng.uniform(0.1, 0.9, grid.shape)) * across - 0.2
    _, nearest = cKDTree(points).query(np.column_stack([frame.u.ravel(), frame.v.ravel()]))
    return nearest.reshape(frame.u.shape).astype(np.int32), points


def _fields(frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """Cut blocks of farmland into strips of one direction per block; a crop for each strip."""
    block, points = _cells(frame, 0, 0.17)
    rng = stream(frame.seed, "parcels", 1)
    count = len(points)
    angle = rng.choice([0.25, 0.25 + np.pi / 2, 0.7, -0.4], count) + rng.normal(0, 0.12, count)
    width, length = rng.uniform(0.03, 0.075, count), rng.uniform(0.08, 0.17, count)
    du, dv = frame.u - points[block, 0], frame.v - points[block, 1]
    across = np.cos(angle)[block] * du + np.sin(angle)[block] * dv
    along = -np.sin(angle)[block] * du + np.cos(angle)[block] * dv
    strip = np.floor(across / width[block] + 0.5).astype(int)
    offset = _hash(block, strip) % 1000 / 1000
    piece = np.floor(along / length[block] + offset).astype(int)
    parcel = (_hash(block, strip, piece) % (2**30)).astype(np.int32)
    share = parcel % 1009 / 1009
    label = np.select(
        [share < 0.34, share < 0.62, share < 0.90], [WHEAT, MAIZE, MEADOW], default=BARE
    )
    edge = (np.roll(block, 1, 0) != block) | (np.roll(block, 1, 1) != block)
    label[edge] = MEADOW  # grass verges and tracks between the blocks
    return label.astype(np.uint8), parcel


def _hash(*values: np.ndarray) -> np.ndarray:
    mixed = np.zeros(values[0].shape, np.uint64)
    for value in values:
        mixed = (mixed ^ (value.astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B9))) * (
            np.uint64(0xBF58476D1CE4E5B9)
        )
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(20)).astype(np.int64)


def _forest(frame: _Frame, label: np.ndarray, parcel: np.ndarray, river: np.ndarray) -> None:
    """Put forest on the slopes away from the river, in stands of one species and age."""
    hill = frame.noise(3, 0.55, 0.03)
    score = hill + 5.0 * np.minimum(river, 0.34)
    score += 2.2 * np.exp(-(np.hypot(frame.u - 0.74, frame.v - 0.22) ** 2) / 0.055)
    score -= 2.0 * np.exp(-(np.hypot(frame.u - 0.26, frame.v - 0.24) ** 2) / 0.04)
    wood = score > np.quantile(score, 0.71)
    copse = (frame.noise(4, 0.09, 0.02) > 2.2) | (
        (np.abs(river - 0.022) < 0.008) & (frame.noise(5, 0.06, 0.015) > 0.5)
    )
    stand, points = _cells(frame, 2, 0.075)
    # Stands: soil decides the species at the stand's centre; spruce above, pine on sand.
    at = np.clip((points * frame.size).astype(int), 0, frame.size - 1)
    soil = frame.noise(6, 0.8, smallest=0.12)[at[:, 1], at[:, 0]]
    tint = stream(frame.seed, "parcels", 3).normal(0, 0.35, len(points))
    inside = wood[at[:, 1], at[:, 0]]
    rank = soil + tint
    low, high = np.quantile(rank[inside], [0.30, 0.74]) if inside.any() else (-0.4, 0.4)
    species = np.select([rank < low, rank < high], [SPRUCE, BEECH], default=PINE)
    label[wood] = species[stand][wood]
    label[copse & ~wood] = BEECH
    parcel[wood] = -1 - stand[wood]


def _town(
    frame: _Frame,
    bent: _Frame,
    label: np.ndarray,
    surface: np.ndarray,
    jitter: np.random.Generator,
) -> None:
    centre = np.array([0.37, 0.80]) + (jitter.uniform(-0.03, 0.03, 2) if frame.seed else 0)
    u, v = bent.u - centre[0], bent.v - centre[1]
    radius = np.hypot(frame.u - centre[0], (frame.v - centre[1]) * 1.15)
    town = radius < 0.115 + 0.02 * frame.noise(7, 0.25, 0.03)
    # Streets follow a grid that turns slowly; plots between them hold roofs and gardens.
    turn = 0.35 + 0.25 * frame.noise(8, 0.8, 0.3)
    first, second = np.cos(turn) * u + np.sin(turn) * v, -np.sin(turn) * u + np.cos(turn) * v
    pixel = 1 / frame.size
    street = (np.mod(first, 0.034) < pixel) | (np.mod(second, 0.046) < pixel)
    plot = _hash(np.floor(first / (2.2 * pixel)), np.floor(second / (2.2 * pixel))) % 1000 / 1000
    dense = np.clip(0.75 - 3.0 * radius, 0.35, 0.8)
    kind = np.where(plot < dense, ROOF, GARDEN)
    kind[street] = ASPHALT
    works = (np.abs(u - 0.125) < 0.035) & (np.abs(v + 0.015) < 0.05)
    hall = (np.mod(u - 0.09, 0.024) < 0.016) & (np.mod(v + 0.065, 0.034) < 0.022)
    kind = np.where(works, np.where(hall, HALL, ASPHALT), kind)
    road = _roads(bent, centre)
    kind[road & ~town & ~works] = ASPHALT
    built = town | works | road
    label[built] = TOWN
    surface[built] = kind[built]


def _roads(frame: _Frame, centre: np.ndarray) -> np.ndarray:
    u, v = frame.u, frame.v
    width = 0.55 / frame.size

    def bend(along: np.ndarray, phase: float, start: float) -> np.ndarray:
        return 0.02 * (np.sin(9 * along + phase) - np.sin(9 * start + phase))

    north = np.abs(u - centre[0] - 0.30 * (centre[1] - v) - bend(v, 0.0, centre[1]))
    east = np.abs(v - centre[1] - 0.10 * (u - centre[0]) - bend(u, 1.0, centre[0]))
    west = np.abs(v - centre[1] + 0.16 * (u - centre[0]) - bend(u, 2.0, centre[0]))
    return (
        ((north < width) & (v < centre[1]))
        | ((east < width) & (u > centre[0]))
        | ((west < width) & (u < centre[0]))
    )


def _mine_front(frame: _Frame, days: int) -> np.ndarray:
    """Give the day on which the mine reaches a pixel, `NEVER` outside its final outline."""
    du, dv = frame.u - 0.235, frame.v - 0.25
    inside = np.hypot(du / 0.185, dv / 0.135) < 1
    along = (du * 0.92 + dv * 0.39 + 0.19) / 0.38 + 0.025 * frame.noise(9, 0.2, 0.05)
    day = np.rint((along - 0.55) / 0.45 * days).astype(np.int64)
    return np.where(inside & (day < days), day, NEVER)


def _events(
    frame: _Frame,
    label: np.ndarray,
    parcel: np.ndarray,
    front: np.ndarray,
    mortality_day: int,
    logging_day: int,
) -> tuple[np.ndarray, np.ndarray]:
    event = np.zeros(label.shape, np.uint8)
    day = np.full(label.shape, NEVER, np.int64)
    dead, when = _outbreak(frame, label, mortality_day)
    event[dead], day[dead] = EVENTS.index("tree_mortality"), when[dead]
    felled = _felled(label, parcel, event > 0)
    event[felled], day[felled] = EVENTS.index("logging"), logging_day
    mined = (front < NEVER) & (label != WATER)
    event[mined], day[mined] = EVENTS.index("mining"), front[mined]
    return event, day.astype(np.int32)


def _outbreak(frame: _Frame, label: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Bark beetles: trees die in patches that spread from the heart of the spruce forest.

    Where there is no spruce, pine dies, or beech; where there is no forest, nothing does.
    """
    forests = [kind for kind in (SPRUCE, PINE, BEECH) if (label == kind).any()]
    if not forests:
        return np.zeros(label.shape, bool), np.zeros(label.shape, np.int64)
    host = label == forests[0]
    rows, columns = np.nonzero(host)
    place = np.column_stack([columns, rows]) / frame.size
    near = cKDTree(place).query_ball_point(place[:: max(1, len(place) // 400)], 0.06)
    heart = place[:: max(1, len(place) // 400)][int(np.argmax([len(found) for found in near]))]
    size = frame.size
    row, column = int(heart[1] * size), int(heart[0] * size)
    radius = np.hypot(frame.u - frame.u[row, column], frame.v - frame.v[row, column])
    patchy = radius + 0.022 * frame.noise(10, 0.08)
    dead = host & (patchy < 0.075)
    when = first + np.rint(np.clip(patchy, 0, None) / 0.075 * 90).astype(np.int64)
    return dead, when


def _felled(label: np.ndarray, parcel: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Fell the largest pine stand that no other event touches (beech where there is no pine)."""
    for species in (PINE, BEECH, SPRUCE):
        free = (label == species) & (parcel < 0) & ~taken
        stands, counts = np.unique(parcel[free], return_counts=True)
        if stands.size:
            return free & (parcel == stands[np.argmax(counts)])
    return np.zeros(label.shape, bool)


def _elevation(
    frame: _Frame, river: np.ndarray, day: np.ndarray, event: np.ndarray, label: np.ndarray
) -> np.ndarray:
    hills = 118 + 150 * np.minimum(river, 0.5) + 9 * frame.noise(3, 0.55, 0.03)
    # The survey of the terrain was made at the start: a pit where the mine had been before.
    open_days = np.where((event == EVENTS.index("mining")) & (label == MINE), -day, 0)
    pit = 45 * smoothstep(open_days / 500) * (1 - 0.7 * smoothstep((open_days - 700) / 900))
    return np.maximum(hills - pit, np.where(label == WATER, 112, 0)).astype(np.float32)


def _site(frame: _Frame, label: np.ndarray, parcel: np.ndarray) -> dict[str, np.ndarray]:
    by_parcel = _hash(parcel, np.full(parcel.shape, frame.seed)) % 9973 / 9973 - 0.5
    forest = label <= PINE
    vigour = 1 + np.where(forest, 0.30, 0.34) * by_parcel + 0.06 * frame.noise(11, 0.1)
    timing = 1.6 * (_hash(parcel, np.full(parcel.shape, 77)) % 9973 / 9973 - 0.5)
    timing = timing + 0.55 * frame.noise(12, 0.4)
    sand = frame.noise(6, 0.8, smallest=0.12)
    brightness = np.clip(0.5 + 0.14 * sand + 0.22 * by_parcel + 0.05 * frame.noise(13, 0.05), 0, 1)
    capacity = np.clip(1 - 0.16 * sand + 0.05 * frame.noise(14, 0.1), 0.5, 1.5)
    texture = stream(frame.seed, "fields").standard_normal(label.shape)
    maps = {
        "vigour": np.clip(vigour, 0.5, 1.5), "timing": timing, "brightness": brightness,
        "capacity": capacity, "texture": texture,
    }  # fmt: skip
    return {name: values.astype(np.float32) for name, values in maps.items()}


def _turn(land: Land, quarter: int) -> Land:
    turned = {}
    for field in fields(land):
        values = np.rot90(getattr(land, field.name), quarter % 4)
        turned[field.name] = np.ascontiguousarray(values.T if quarter >= 4 else values)
    return Land(**turned)

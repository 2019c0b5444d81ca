"""Laws of the spectral indices, and parity with spyndex in float64 over the whole table."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest
import spyndex
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.indices import formula, program
from tests.conftest import bands_cube

SYMBOLS = {band.name: band.spyndex for band in BANDS.values()}
KERNELS = {
    "kNN": "NN",
    "kNR": "NR",
    "kNB": "NB",
    "kNL": "NL",
    "kGG": "GG",
    "kGR": "GR",
    "kGB": "GB",
}
EPS = float(np.finfo(np.float32).eps) / 2
REFLECTANCE = st.floats(2**-13, 1.5, width=32)


def spyndex_parameters(bands: dict[str, np.ndarray], noise: np.random.Generator | None) -> dict:
    """Bands, constants, wavelengths and kernels as spyndex wants them, in float64.

    With `noise` each array is moved by half a unit in the last place of float32: what that does
    to an index is its conditioning, below which no float32 result can be held to account.
    """

    def moved(values: np.ndarray) -> np.ndarray:
        if noise is None:
            return values
        return values * (1 + EPS * noise.choice([-1.0, 1.0], values.shape))

    found: dict = {SYMBOLS[name]: moved(values.astype(float)) for name, values in bands.items()}
    found |= {
        n: row["default"] for n, row in spyndex_constants().items() if row["default"] is not None
    }
    found |= {f"lambda{band.spyndex}": band.wavelength_nm for band in BANDS.values()}
    for name, (a, b) in KERNELS.items():
        if a in found and b in found:
            sigma = 0.5 * (found[a] + found[b])
            found[name] = moved(spyndex.computeKernel("RBF", a=found[a], b=found[b], sigma=sigma))
    return found


def spyndex_constants() -> dict:
    return {
        name: {"default": constant.default}
        for name, constant in spyndex.constants.items()
        if not name.startswith("lambda")
    }


def reference(
    bands: dict[str, np.ndarray], names: tuple[str, ...], noise: np.random.Generator | None = None
) -> np.ndarray:
    parameters = spyndex_parameters(bands, noise)
    with np.errstate(all="ignore"):
        return np.stack([spyndex.computeIndex(name, parameters) for name in names])


def assert_parity(bands: dict[str, np.ndarray]) -> tuple[str, ...]:
    """|ours - spyndex| <= 4e-7 max(|spyndex|, 1) + 64 x conditioning, at each single value."""
    names = indices.available(bands)
    ours = indices.compute(bands, names)
    wanted = reference(bands, names)
    rng = np.random.default_rng(1)
    spread = np.zeros(wanted.shape)
    with np.errstate(invalid="ignore"):
        for _ in range(8):
            spread = np.fmax(spread, np.abs(reference(bands, names, rng) - wanted))
    bound = 4e-7 * np.maximum(np.abs(wanted), 1) + 64 * spread
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isnan(ours), ~finite)
    excess = np.abs(ours - wanted)[finite] / bound[finite]
    rows = np.nonzero(finite)[0]
    assert excess.max() <= 1, (names[rows[excess.argmax()]], excess.max())
    close = np.abs(ours - wanted)[finite] <= 1e-5 * np.maximum(np.abs(wanted[finite]), 0.01)
    assert close.mean() > 0.999
    return names


def real_bands(shared_data: Path) -> dict[str, np.ndarray]:
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    with xr.open_dataset(path) as ds:
        part = ds.isel(time=slice(None, None, 12), y=slice(None, None, 4), x=slice(None, None, 4))
        return {name: part[name].values.astype(np.float32) for name in BANDS if name in part}


def ndvi(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    return indices.compute({"B08": nir, "B04": red}, ["NDVI"])[0]


def test_the_table_is_that_of_spyndex() -> None:
    theirs = {n: i for n, i in spyndex.indices.items() if "Sentinel-2" in i.platforms}
    assert list(indices.INDICES) == list(theirs)
    assert len(theirs) == 245
    assert len(indices.names()) == 244
    assert set(theirs) - set(indices.names()) == {"NIRvP"}
    for name, ours in indices.INDICES.items():
        assert ours.formula.replace(" ", "") == theirs[name].formula
        assert ours.long_name == theirs[name].long_name
        assert ours.reference == theirs[name].reference
    for name, value in indices.CONSTANTS.items():
        assert spyndex.constants[name].default == value
    for band in BANDS.values():
        assert spyndex.bands[band.spyndex].sentinel2a.wavelength == band.wavelength_nm


def test_parity_with_spyndex_on_random_reflectance() -> None:
    rng = np.random.default_rng(0)
    bands = {name: rng.uniform(0.01, 0.8, 3000).astype(np.float32) for name in BANDS}
    assert len(assert_parity(bands)) == 244


def test_parity_with_spyndex_on_real_reflectance(shared_data: Path) -> None:
    assert len(assert_parity(real_bands(shared_data))) > 230


def test_known_values() -> None:
    # NDVI and kNDVI = tanh(NDVI^2): Camps-Valls et al. 2021, doi 10.1126/sciadv.abc7447, eq. 5
    nir, red = np.array([0.643, 0.4], np.float32), np.array([0.175, 0.1], np.float32)
    np.testing.assert_allclose(ndvi(nir, red), [0.5721271393643031, 0.6], rtol=1e-6)
    kernel = indices.compute({"B08": nir, "B04": red}, ["kNDVI"])[0]
    np.testing.assert_allclose(kernel, np.tanh(np.array([0.5721271, 0.6]) ** 2), rtol=1e-6)
    # SAVI with the usual L = 0.5 (Huete 1988): 1.5 (0.4 - 0.1) / (0.4 + 0.1 + 0.5)
    savi = indices.compute({"B08": nir, "B04": red}, ["SAVI"], constants={"L": 0.5})[0]
    np.testing.assert_allclose(savi[1], 0.45, rtol=1e-6)


@given(REFLECTANCE, REFLECTANCE)
def test_ndvi_is_antisymmetric_and_bounded(a: float, b: float) -> None:
    one, two = np.array([a], np.float32), np.array([b], np.float32)
    assert ndvi(one, two)[0] == -ndvi(two, one)[0]
    assert -1 <= ndvi(one, two)[0] <= 1


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 400), st.data())
def test_any_part_equals_the_same_part_of_the_whole(count: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(count)
    bands = {name: rng.uniform(0, 1, count).astype(np.float32) for name in BANDS}
    whole = indices.compute(bands, indices.names())
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = indices.compute({n: v[start:stop] for n, v in bands.items()}, indices.names())
    np.testing.assert_array_equal(part, whole[:, start:stop])


def test_threads_alignment_and_the_way_of_writing_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    count = 40_000  # enough values for several threads
    bands = {name: rng.uniform(0, 1, count + 3).astype(np.float32) for name in BANDS}
    alone = indices.compute(bands, indices.names(), threads=1)
    np.testing.assert_array_equal(indices.compute(bands, indices.names(), threads=3), alone)
    one_by_one = np.stack([indices.compute(bands, [name])[0] for name in indices.names()])
    np.testing.assert_array_equal(one_by_one, alone)  # few rows go through the caches
    even = {name: values[:count] for name, values in bands.items()}
    for shift in (0, 1, 5, 16):  # rows that begin anywhere in a line of the cache
        room = np.zeros(244 * count + 32, np.float32)
        begin = (-room.ctypes.data % 64) // 4 + shift
        out = room[begin : begin + 244 * count].reshape(244, count)
        indices.compute(even, indices.names(), out=out)
        np.testing.assert_array_equal(out, alone[:, :count])
        assert not room[:begin].any()
        assert not room[begin + out.size :].any()


def test_together_equals_one_by_one_and_order_and_repeats_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    bands = {name: rng.uniform(0, 1, (5, 40)).astype(np.float32) for name in BANDS}
    wanted = [*indices.names()[::-1], "NDVI", "NDVI"]
    together = indices.compute(bands, wanted)
    for row, name in zip(together, wanted, strict=True):
        np.testing.assert_array_equal(row, indices.compute(bands, [name])[0])


def test_equal_parts_are_computed_once() -> None:
    trees = [formula.parse(text, ["a", "b"]) for text in ("(a - b) / (a + b)", "(b + a) * (a - b)")]
    assert len(program.compiled(trees).code) == 4


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0, -0.01]), min_size=12, max_size=12))
def test_nothing_is_infinite(values: list[float]) -> None:
    bands = {name: np.full(3, value, np.float32) for name, value in zip(BANDS, values, strict=True)}
    assert not np.isinf(indices.compute(bands, indices.names())).any()


def test_zero_denominators_are_nan_and_stay_nan() -> None:
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert np.isnan(ndvi(zero, zero)).all()
    assert np.isnan(ndvi(one, -one)).all()
    hidden = indices.define("hidden", "1 / (1 + N / R)")  # 1 / (1 + inf) would be 0
    assert np.isnan(indices.compute({"B08": one, "B04": zero}, [hidden])).all()
    np.testing.assert_array_equal(
        indices.compute({"B08": one, "B04": np.array([0, 1], np.float32)}, [hidden])[0],
        [np.nan, 0.5],
    )


def test_overflow_is_nan() -> None:
    large = indices.define("large", "1e9 ** 4 * N")
    huge = indices.compute({"B08": np.array([1e3, 1], np.float32)}, [large])[0]
    np.testing.assert_array_equal(huge, np.array([np.nan, 1e36], np.float32))


def test_missing_values_spread_to_the_indices_that_use_the_band_and_to_no_other() -> None:
    rng = np.random.default_rng(4)
    bands = {name: rng.uniform(0.05, 0.5, 30).astype(np.float32) for name in BANDS}
    whole = indices.compute(bands, indices.names())
    for band in BANDS:
        gone = bands | {band: np.where(np.arange(30) < 10, np.nan, bands[band])}
        found = indices.compute(gone, indices.names())
        for name, row, before in zip(indices.names(), found, whole, strict=True):
            np.testing.assert_array_equal(row[10:], before[10:])
            uses = band in indices.INDICES[name].bands
            assert np.isnan(row[:10]).all() if uses else np.array_equal(row[:10], before[:10], True)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "N.__class__",
        "N[0]",
        "[N for N in (1, 2)]",
        "(lambda: N)()",
        "abs(N)",
        "N if R else B",
        "N and R",
        "N < R",
        "N @ R",
        "N // R",
        "N % R",
        "~N",
        "+N",
        "not N",
        "'N'",
        "True",
        "1j * N",
        "...",
        "(N, R)",
        "{N}",
        "N := 1",
        "f'{N}'",
        "N; R",
        "N = R",
        "",
        "N\0",
        "N +",
        "UNKNOWN + N",
        "N ** R",
        "N ** 9",
        "N ** -9.5",
        "N ** 0",
        "N ** 9 ** 9",
        "9 ** 9 ** 9 * N",
        "N / (1 - 1)",
        "N * 1e300",
        "N * 1e9 ** 8",
        "N" + " + N" * 300,
        "-" * 60 + "N",
        "(" * 300 + "N" + ")" * 150,
        "1" * 400 + " * N",
        "1 + 1",
    ],
)
def test_what_is_no_formula_of_bands_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w{3,} .*\w"):
        indices.define("own", text)


def test_out_is_filled_and_checked() -> None:
    bands = {"B08": np.full((2, 3), 0.4, np.float32), "B04": np.full((2, 3), 0.1, np.float32)}
    out = np.zeros((1, 2, 3), np.float32)
    assert indices.compute(bands, ["NDVI"], out=out) is out
    np.testing.assert_allclose(out, 0.6, rtol=1e-6)
    with pytest.raises(ValueError, match="contiguous float32"):
        indices.compute(bands, ["NDVI"], out=np.zeros((2, 2, 3), np.float32))
    with pytest.raises(ValueError, match="shape"):
        indices.compute(bands | {"B04": np.zeros(5)}, ["NDVI"])


def test_wrong_names_are_named() -> None:
    bands = {"B08": np.ones(1), "B04": np.ones(1)}
    with pytest.raises(KeyError, match="NDVI"):
        indices.compute(bands, ["NDIV"])
    with pytest.raises(ValueError, match="EVI needs B02"):
        indices.compute(bands, ["EVI"])
    with pytest.raises(ValueError, match="'PAR'"):
        indices.compute(bands, ["NIRvP"])
    with pytest.raises(ValueError, match="no constant"):
        indices.compute(bands, ["NDVI"], constants={"Q": 1})
    with pytest.raises(ValueError, match="at least one"):
        indices.compute(bands, [])
    par = indices.compute(bands | {"B04": np.zeros(1)}, ["NIRvP"], constants={"PAR": 300})
    assert par[0, 0] == 300


def test_available_needs_every_band() -> None:
    few = indices.available(["B04", "B08"])
    assert "NDVI" in few
    assert "EVI" not in few
    assert all(set(indices.INDICES[name].bands) <= {"B04", "B08"} for name in few)
    assert set(few) < set(indices.available(["B02", "B04", "B08"]))


def test_virtual_cube_equals_compute_and_stays_lazy() -> None:
    ds = bands_cube()
    wanted = ["NDVI", "kNDVI", "NDWI"]
    eager = indices.select(ds, wanted)
    for chunks in ({"time": 3, "band": 1, "y": 10, "x": 7}, {"band": 4}, {}):
        lazy = indices.select(ds.chunk(chunks), wanted)
        assert isinstance(lazy.data, dask.array.Array)
        xr.testing.assert_identical(lazy.compute(), eager)
    assert eager.dims == ("time", "index", "y", "x")
    assert eager.dtype == np.float32
    assert eager.attrs["units"] == "1"
    assert eager.attrs["long_name"]
    assert "spyndex" in eager.attrs["catalogue"]
    assert "spatial_ref" in eager.coords
    red, nir = (ds["reflectance"].sel(band=b, drop=True).values for b in ("B04", "B08"))
    np.testing.assert_array_equal(eager.sel(index="NDVI").values, ndvi(nir, red))


def test_virtual_cube_of_any_selection() -> None:
    ds = bands_cube().chunk({"time": 2, "band": 1})
    whole = indices.select(ds, ["NDVI", "EVI"])
    for part in ({"time": 3}, {"x": 4, "y": 5}, {"time": slice(1, 4), "y": slice(2, 9)}):
        xr.testing.assert_identical(
            indices.select(ds.isel(part), ["NDVI", "EVI"]).compute(), whole.isel(part).compute()
        )


def test_reading_one_chunk_computes_one_chunk() -> None:
    ds = bands_cube(height=32, width=32)
    read: list[tuple] = []

    def spy(block: np.ndarray, block_info: dict) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return block

    source = ds["reflectance"].chunk({"time": 7, "band": 1, "y": 16, "x": 16})
    source = source.copy(data=source.data.map_blocks(spy, dtype=np.float32, meta=source.data._meta))
    lazy = indices.select(ds.assign(reflectance=source), ["NDVI"])
    lazy.isel(y=slice(0, 4), x=slice(20, 24)).compute()
    assert sorted(read) == [(0, 2, 0, 1), (0, 6, 0, 1)]  # B04 and B08 of one chunk

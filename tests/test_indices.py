"""Laws of the spectral indices, and parity with spyndex in float64 over the whole table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
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
from deepfeatures.indices import formula, native, program
from tests.conftest import bands_cube
from tests.rounding import bounded, tree_of

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
REFLECTANCE = st.floats(2**-13, 1.5, width=32)


def spyndex_parameters(bands: dict[str, np.ndarray], dtype: type) -> dict:
    """Bands, constants, wavelengths and kernels as spyndex wants them."""
    found: dict = {SYMBOLS[name]: values.astype(dtype) for name, values in bands.items()}
    found |= {
        n: row["default"] for n, row in spyndex_constants().items() if row["default"] is not None
    }
    found |= {f"lambda{band.spyndex}": band.wavelength_nm for band in BANDS.values()}
    for name, (a, b) in KERNELS.items():
        if a in found and b in found:
            sigma = dtype(0.5) * (found[a] + found[b])
            found[name] = spyndex.computeKernel("RBF", a=found[a], b=found[b], sigma=sigma)
    return found


def spyndex_constants() -> dict:
    return {
        name: {"default": constant.default}
        for name, constant in spyndex.constants.items()
        if not name.startswith("lambda")
    }


NEAR_ZERO = "its denominator crosses zero where vegetation, soil or clouds are"
BOTH = "its denominator crosses zero, and what stands above it cancels"
CANCELS = "differences of nearly equal terms far larger than the result"
EXCEPTIONS = {
    "ARI": CANCELS,
    "BAIM": "1 / (0.05 - N)^2 has a pole at a common reflectance",
    "CRI550": CANCELS,
    "CRI700": CANCELS,
    "EVI": NEAR_ZERO,
    "EVIv": NEAR_ZERO,
    "GARI": NEAR_ZERO,
    "GRARI": NEAR_ZERO,
    "IAVI": NEAR_ZERO,
    "IBI": NEAR_ZERO,
    "MCARIOSAVI": BOTH,
    "NDDI": NEAR_ZERO,
    "NMDI": NEAR_ZERO,
    "REDSI": CANCELS,
    "S2REP": NEAR_ZERO,
    "TCARIOSAVI": BOTH,
    "TGI": CANCELS,
    "TTVI": CANCELS,
    "TVI": "the root of a difference that may be nearly zero",
    "TWI": BOTH,
    "TriVI": CANCELS,
    "VARI": NEAR_ZERO,
    "VARI700": NEAR_ZERO,
    "VIBI": NEAR_ZERO,
    "WI2015": CANCELS,
    "kEVI": BOTH,
    "mND705": NEAR_ZERO,
}
"""Indices some values of which float32 cannot hold to 1e-5 relative or 1e-6 absolute, and why.

Their formulas magnify the rounding of the bands themselves. spyndex in float32 loses as much.
"""


def reference(
    bands: dict[str, np.ndarray], names: Sequence[str], dtype: type = np.float64
) -> np.ndarray:
    """Indices as spyndex evaluates them in float64 or float32."""
    parameters = spyndex_parameters(bands, dtype)
    shape = next(iter(bands.values())).shape
    with np.errstate(all="ignore"):
        found = [spyndex.computeIndex(name, parameters) for name in names]
    return np.stack([np.broadcast_to(row, shape) for row in found]).astype(float)


def beyond(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where values differ by more than 1e-6 + 1e-5 relative, or one alone is undefined."""
    there, finite = np.isfinite(found), np.isfinite(wanted)
    with np.errstate(invalid="ignore"):
        far = np.abs(found - wanted) > 1e-6 + 1e-5 * np.abs(wanted)
    return (there != finite) | (there & finite & far)


def assert_parity(bands: dict[str, np.ndarray]) -> None:
    """Each value is within 1e-6 + 1e-5 of spyndex in float64, but for those of `EXCEPTIONS`.

    These are within what the rounding of each operation to float32 may add up to.
    """
    names = indices.available(bands)
    ours, wanted = indices.compute(bands, names).astype(float), reference(bands, names)
    missed = beyond(ours, wanted)
    rows = np.flatnonzero(missed.any(axis=1))
    delicate = [names[row] for row in rows]
    assert set(delicate) <= EXCEPTIONS.keys()
    assert missed.mean() < 3e-4
    for row in rows:
        exact, off = bounded(tree_of(indices.INDICES[names[row]].formula), bands)
        at = missed[row] & np.isfinite(off)
        np.testing.assert_allclose(exact[at], wanted[row][at], rtol=1e-7)
        assert (abs(ours[row] - exact)[at] <= off[at]).all()
    if delicate:
        theirs = beyond(reference(bands, delicate, np.float32), wanted[rows])
        assert missed.sum() <= theirs.sum()


def random_bands(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.01, 0.8, count).astype(np.float32) for name in BANDS}


REAL = {
    "be_31UDS_s2s1_2017-2018_10m": 239,
    "tza_37MBS_s2s1_2019-2021_20m": 20,
    "terramesh_38D_378R_2_3_s2l2a_s1rtc_lulc": 244,
    "terramesh_433D_629L_3_1_s2l2a_s1rtc_lulc": 244,
    "minicube_34VCL_sweden_forest": 31,
}
"""Real cubes, and how many indices their bands allow."""


def real_bands(shared_data: Path, name: str, every: int = 3) -> dict[str, np.ndarray]:
    """Every n-th pixel both ways of every sixth date that has values."""
    with xr.open_dataset(shared_data / "s2" / f"{name}.nc") as ds:
        ds = ds.rename({str(key): str(key).removeprefix("s2_") for key in ds.data_vars})
        if "avail" in ds:
            ds = ds.isel(time=np.flatnonzero(ds["avail"].values == 1))
        steps = {"time": 6} | dict.fromkeys(("y", "x", "lat", "lon"), every)
        part = ds.isel({dim: slice(None, None, n) for dim, n in steps.items() if dim in ds.sizes})
        offset = -0.1 if "433D" in name else 0.0  # of baseline 04.00, still in the data
        bands = {band: part[band].values + offset for band in BANDS if band in part}
    return {band: values.astype(np.float32).ravel() for band, values in bands.items()}


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
    assert_parity(random_bands(10_000))


@pytest.mark.parametrize("name", REAL)
def test_parity_with_spyndex_on_real_reflectance(name: str, shared_data: Path) -> None:
    bands = real_bands(shared_data, name)
    assert len(indices.available(bands)) == REAL[name]
    assert_parity(bands)


def test_every_value_is_as_good_as_float32_allows() -> None:
    bands = random_bands(3000)
    loose = 0
    for name, row in zip(indices.names(), indices.compute(bands, indices.names()), strict=True):
        exact, off = bounded(tree_of(indices.INDICES[name].formula), bands)
        assert np.isnan(row[np.isnan(exact) & (off == 0)]).all(), name
        held = np.isfinite(off) & np.isfinite(exact)
        assert (abs(row - exact)[held] <= off[held]).all(), name
        loose += np.count_nonzero(np.isinf(off))
    assert loose < 1e-4 * 244 * 3000


def test_each_exception_from_parity_is_needed(shared_data: Path) -> None:
    needed: set[str] = set()
    real = real_bands(shared_data, "terramesh_433D_629L_3_1_s2l2a_s1rtc_lulc", every=1)
    for bands in (random_bands(200_000), real):
        names = list(EXCEPTIONS)
        missed = beyond(indices.compute(bands, names).astype(float), reference(bands, names))
        needed |= {name for name, row in zip(names, missed, strict=True) if row.any()}
    assert needed == EXCEPTIONS.keys()


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


def evaluated(tree: formula.Tree, values: np.ndarray) -> np.ndarray:
    out = np.empty((1, len(values)), np.float32)
    native.run(program.compiled([tree]), [values], out)
    return out[0]


def assert_nearest(found: np.ndarray, exact: np.ndarray) -> None:
    """Each float32 is the one nearest to float64, but for rare ties; NaN where there is none."""
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), ~np.isfinite(nearest))
    there = np.isfinite(nearest)
    off = abs(found[there].astype(float) - exact[there]) / np.spacing(abs(nearest[there]))
    assert off.max() < 0.501
    assert (found[there] != nearest[there]).mean() < 1e-4


EVERY_FLOAT = np.arange(0, 2**32, 4999, dtype=np.uint64).astype(np.uint32).view(np.float32)
"""One of 4999 of all float32 of either sign, subnormal, infinite and NaN ones among them."""


def test_exponentials_are_right_over_the_whole_range() -> None:
    edges = [0, -0.0, 88.72283, 88.72284, -87.34, -103.97, -103.98, -1e4, np.inf, -np.inf, np.nan]
    x = np.append(EVERY_FLOAT, np.float32([*edges, *np.linspace(-104, 89, 100_000)]))
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.exp(np.where(np.isinf(x), np.nan, x).astype(float))
    assert_nearest(evaluated(("exp", ("name", "B08")), x), exact)


@pytest.mark.parametrize("exponent", [0.5, 1.16, 1 / 3, 0.367879, 0.001, 2.5, 7.999])
def test_powers_are_right_over_the_whole_range(exponent: float) -> None:
    near_one = np.linspace(0.999, 1.001, 10_000)
    x = np.append(EVERY_FLOAT, np.float32([0, -0.0, -1, 1, np.inf, np.nan, *near_one]))
    with np.errstate(over="ignore", invalid="ignore"):
        base = np.where(np.isinf(x), np.nan, x).astype(float)
        exact = base ** float(np.float32(exponent))
    assert_nearest(evaluated(("**", ("name", "B08"), ("const", exponent)), x), exact)


SOURCE = indices.Coding(scale=1e-4, offset=-0.1, fill=0)


def stored_bands(count: int, seed: int = 6) -> dict[str, np.ndarray]:
    """Codes of usual and of absurd reflectances; a few are the fill value."""
    rng = np.random.default_rng(seed)
    usual, any_ = rng.integers(900, 9000, (12, count)), rng.integers(0, 65536, (12, count))
    codes = np.where(rng.random((12, count)) < 0.9, usual, any_)
    codes[rng.random((12, count)) < 0.02] = SOURCE.fill
    return dict(zip(BANDS, codes.astype(np.uint16), strict=True))


def decoded(codes: np.ndarray) -> np.ndarray:
    values = codes.astype(np.float32) * np.float32(SOURCE.scale) + np.float32(SOURCE.offset)
    return np.where(codes == SOURCE.fill, np.float32(np.nan), values)


def test_decoding_changes_no_bit() -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(
        indices.compute({"B08": every}, ["B08"], source=SOURCE)[0], decoded(every)
    )
    codes = stored_bands(5000)
    bands = {band: decoded(values) for band, values in codes.items()}
    direct = indices.compute(codes, indices.names(), source=SOURCE)
    np.testing.assert_array_equal(direct, indices.compute(bands, indices.names()))


def undefined(values: np.ndarray, bands: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Count values that are NaN although each band of the index is there."""
    gone = {band: np.isnan(row) for band, row in bands.items()}
    missing = [np.any([gone[band] for band in indices.INDICES[n].bands], axis=0) for n in names]
    return (np.isnan(values) & ~np.stack(missing)).sum(axis=1)


def there(bands: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Count the pixels in which all bands of an index have a value."""
    return np.array(
        [
            np.isfinite([bands[band] for band in indices.INDICES[name].bands]).all(axis=0).sum()
            for name in names
        ]
    )


def test_undefined_values_are_counted() -> None:
    codes, names = stored_bands(5003), indices.names()
    bands = {band: decoded(values) for band, values in codes.items()}
    for stored, source in ((codes, SOURCE), (bands, None)):
        counts = np.zeros((len(names), 4), np.int64)
        counts[:, 0] = 7  # they are added to
        values = indices.compute(stored, names, source=source, counts=counts)
        np.testing.assert_array_equal(counts[:, 0] - 7, undefined(values, bands, names))
        assert counts[:, 0].max() > 50
        assert not counts[:, 1:3].any()
        np.testing.assert_array_equal(counts[:, 3], there(bands, names))


def test_coded_results_are_near_and_what_is_clipped_or_undefined_is_counted() -> None:
    codes, names = stored_bands(5003), indices.names()
    bands = {band: decoded(values) for band, values in codes.items()}
    values = indices.compute(bands, names)
    low, high = np.nanquantile(values, [0.01, 0.99], axis=1)  # so that one in a hundred is clipped
    scale = (np.maximum(high - low, 1e-3) / (2 * 32767)).astype(np.float32)
    offset = ((low + high) / 2).astype(np.float32)
    counts = np.zeros((len(names), 4), np.int64)
    found = indices.encode(codes, names, source=SOURCE, scale=scale, offset=offset, counts=counts)
    np.testing.assert_array_equal(found == -32768, np.isnan(values))
    steps = (values.astype(float) - offset[:, None]) / scale[:, None]
    off = np.where(found == -32768, 0, found - steps.clip(-32767, 32767))
    # half a step, and what is lost because codes are found in float32 far from 0
    slack = 3 * 2.0**-24 * (32767 + 2 * abs(offset / scale))
    assert (abs(off).max(axis=1) <= 0.5 + slack).all()
    assert np.quantile(slack, 0.9) < 0.05
    rates = (1 / scale.astype(float)).astype(np.float32), (-offset / scale).astype(np.float32)
    exact = np.rint(values * rates[0][:, None] + rates[1][:, None])
    np.testing.assert_array_equal(counts[:, 1], (exact < -32767).sum(axis=1))
    np.testing.assert_array_equal(counts[:, 2], (exact > 32767).sum(axis=1))
    np.testing.assert_array_equal(counts[:, 0], undefined(values, bands, names))
    assert counts[:, 1:3].sum() > 0.015 * np.isfinite(values).sum()
    np.testing.assert_array_equal(counts[:, 3], there(bands, names))


def test_a_mask_says_where_is_counted() -> None:
    codes, names = stored_bands(5003), indices.names()
    mask = np.random.default_rng(1).integers(0, 4, 5003).astype(np.uint8)
    some, parts = np.zeros((2, len(names), 4), np.int64)
    coding = {"source": SOURCE, "scale": np.full(244, 1e-4), "offset": np.zeros(244)}
    found = indices.encode(codes, names, **coding, counts=some, mask=mask)
    chosen = {band: values[mask == 1] for band, values in codes.items()}
    np.testing.assert_array_equal(
        indices.encode(chosen, names, **coding, counts=parts), found[:, mask == 1]
    )
    np.testing.assert_array_equal(some, parts)
    assert some.all(axis=0).any()


def test_a_forked_process_has_threads_of_its_own() -> None:
    script = (
        "import os, numpy as np\n"
        "from deepfeatures import indices\n"
        "bands = {name: np.full(5_000_000, v, 'f4') for name, v in (('B08', 0.4), ('B04', 0.1))}\n"
        "indices.compute(bands, ['NDVI'], threads=2)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(int(indices.compute(bands, ['NDVI'], threads=2)[0, -1] > 0.5))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "1"


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

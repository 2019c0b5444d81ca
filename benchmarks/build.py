"""How long a cube of 10 km x 10 km, 12 bands and one year takes from local COGs.

The COGs are made here: the real patches of ``be_31UDS`` mirrored to 1000 x 1000 pixels (10, 20
and 60 m, B01 and B09 from B02 and B8A), with granule metadata. The command line builds the cube
with one and two workers, with processes, on a Dask cluster, and to a local S3 server that breaks
requests; all stores must be equal.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import made_stac
import s3_server

EDGE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("output/build"))
    parser.add_argument("--dates", type=int, default=73, help="dates in the year")
    parser.add_argument("--edge", type=int, default=EDGE)
    parser.add_argument("--clouds", default="full")
    parser.add_argument("--only", nargs="*", metavar="WAY", help="names of the table")
    args = parser.parse_args()
    catalogue = args.out / f"stac-{args.edge}-{args.dates}"
    if not (catalogue / "item_collection.json").exists():
        made_stac.make(args.data, catalogue, args.edge, args.dates)
    size = sum(file.stat().st_size for file in catalogue.rglob("*.tif"))
    pixels = args.edge**2 * args.dates
    print(f"{args.dates} dates x 12 bands x {args.edge} x {args.edge} px; COGs {size / 1e6:.0f} MB")
    print(f"floor: {written(args.out):.0f} MB/s is what this disk takes of plain writes")
    print("| workers | seconds | Mpx-dates/s | MB/s of bands | peak memory [GB] | sha256 |")
    print("| --- | --- | --- | --- | --- | --- |")
    sums = set()
    for name in args.only or WAYS:
        home = args.out / f"home-{name}"
        shutil.rmtree(home, ignore_errors=True)
        with WAYS[name]() as (options, environment, checksum):
            command = build(home, catalogue, args, options)
            seconds, peak = timed(command, environment)
            digest, note = checksum(home)
        sums.add(digest)
        rate, volume = pixels / seconds / 1e6, pixels * 12 * 2 / seconds / 1e6
        print(f"| {name}{note} | {seconds:.1f} | {rate:.2f} | {volume:.0f} | {peak / 1e9:.2f} "
              f"| {digest[:12]} |", flush=True)  # fmt: skip
    assert len(sums) == 1, "the stores differ"


Checksum = Callable[[Path], tuple[str, str]]
Way = tuple[list[str], dict[str, str], Checksum]


def local(home: Path) -> tuple[str, str]:
    """Give the hash of a local store."""
    store = home / "cubes" / "big.zarr"
    files = {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }
    return hashed(files), ""


def hashed(files: dict[str, str]) -> str:
    """Give the hash of names and contents."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def here(*options: str) -> Iterator[Way]:
    yield list(options), {}, local


@contextlib.contextmanager
def cluster() -> Iterator[Way]:
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as running:
        yield ["--scheduler", running.scheduler_address], {}, local


@contextlib.contextmanager
def remote(share: float) -> Iterator[Way]:
    """Write to S3, a share of the requests going wrong."""
    import boto3

    root = f"s3://{s3_server.BUCKET}/bench"
    with s3_server.serving() as s3:
        s3.share = share

        def checksum(home: Path) -> tuple[str, str]:
            client = boto3.client(
                "s3", endpoint_url=f"http://127.0.0.1:{s3.upstream}", region_name="us-east-1",
                aws_access_key_id=s3_server.KEY, aws_secret_access_key=s3_server.SECRET,
            )  # fmt: skip
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=s3_server.BUCKET, Prefix="bench/big.zarr/"
            )
            files = {}
            for entry in (one for page in pages for one in page["Contents"]):
                body = client.get_object(Bucket=s3_server.BUCKET, Key=entry["Key"])["Body"].read()
                name = entry["Key"].removeprefix("bench/big.zarr/")
                files[name] = hashlib.sha256(body).hexdigest()
            return hashed(files), f" ({s3.faults()} faults)"

        environment = s3.environment | {"DEEPFEATURES_ROOTS": root}
        yield ["--workers", "2", "--root", root], environment, checksum


WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[Way]]] = {
    "1 worker": lambda: here("--workers", "1"),
    "2 threads": lambda: here("--workers", "2"),
    "2 processes": lambda: here("--workers", "2", "--processes"),
    "Dask, 2 workers": cluster,
    "2 threads to S3": lambda: remote(0.0),
    "2 threads to S3, 5 % errors": lambda: remote(0.05),
}


def written(folder: Path) -> float:
    """Give the speed of plain writes [MB/s]."""
    block, path = os.urandom(64 * 2**20), folder / "floor.bin"
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(8):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return 8 * len(block) / seconds / 1e6


def build(home: Path, catalogue: Path, args: argparse.Namespace, more: list[str]) -> list[str]:
    lon, lat = made_stac.centre(catalogue)
    return [
        sys.executable, "-m", "deepfeatures", "build", "big", "--home", str(home),
        "--lat", str(lat), "--lon", str(lon), "--edge-size", str(args.edge),
        "--start", "2018-01-01", "--end", "2018-12-31", "--stac", str(catalogue),
        "--clouds", args.clouds, *more,
    ]  # fmt: skip


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Run a command; gives seconds and the peak memory of it and of a cluster beside it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    peak, here = 0, psutil.Process()
    while process.poll() is None:
        used = 0
        for child in here.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "moto" not in " ".join(child.cmdline()):
                    used += child.memory_full_info().pss
        peak = max(peak, used)
        time.sleep(0.2)
    assert process.returncode == 0, command
    return time.perf_counter() - start, peak


if __name__ == "__main__":
    main()

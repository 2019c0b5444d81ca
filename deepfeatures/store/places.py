"""Where a store lies: a folder, or objects below a prefix of a bucket.

Settings of a remote place (endpoint, keys, region, ``AWS_MAX_ATTEMPTS``) come from the
environment, as botocore reads it, never from a catalogue or a URL.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
from zarr.storage import FsspecStore


def remote(url: str) -> bool:
    """Tell whether a place is a URL (``s3://...``) and not a path."""
    return fsspec.utils.get_protocol(str(url)) not in ("file", "local")


def zarr_store(url: str, *, read_only: bool = False) -> Any:
    """Give what zarr and xarray open: the path, or a store of objects."""
    if not remote(url):
        return str(url)
    fs = _remote_filesystem(str(url), asynchronous=True)
    return FsspecStore(fs, path=_inside(fs, url), read_only=read_only)


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Tell in one sentence what is wrong when a remote place can not be reached.

    Raises
    ------
    ConnectionError
        After all attempts that botocore and s3fs make.
    """
    if not remote(url):
        yield
        return
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError) as error:
        if type(error) is ConnectionError:  # said so already
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConnectionError(
            f"{url} can not be reached ({reason}); check AWS_ENDPOINT_URL, the keys and the region "
            "in the environment"
        ) from error


def get(url: str) -> str | None:
    """Read a small text; None if there is none."""
    fs, path = _filesystem(url)
    try:
        with reached(url):
            return fs.cat_file(path).decode()
    except FileNotFoundError:
        return None


def put(url: str, text: str) -> None:
    """Write a small text in one step: a kill leaves all of it or nothing."""
    fs, path = _filesystem(url)
    draft = path if remote(url) else f"{path}.draft"
    with reached(url):
        fs.pipe_file(draft, text.encode())
    if draft != path:
        os.replace(draft, path)


def fill(url: str, objects: Mapping[str, bytes]) -> None:
    """Write objects below a place, remote ones several at a time."""
    fs, path = _filesystem(url)
    with reached(url):
        fs.pipe({f"{path}/{key}": content for key, content in objects.items()})


def texts(url: str) -> dict[str, str]:
    """Read all small texts directly below a place, by name."""
    fs, path = _filesystem(url)
    found = {name: f"{path}/{name}" for name in names(url)}
    with reached(url):
        contents = fs.cat(list(found.values())) if found else {}
    return {name: contents[place].decode() for name, place in found.items()}


def names(url: str) -> set[str]:
    """Give the names of what lies directly below a place; empty if there is nothing."""
    fs, path = _filesystem(url)
    try:
        with reached(url):
            items = fs.ls(path, detail=False)
    except FileNotFoundError:
        return set()
    there = {str(item).rstrip("/").rsplit("/", 1)[-1] for item in items}
    return {name for name in there if not name.endswith(".draft")}


def journal(url: str) -> str:
    """Give the place of the journal of a store."""
    return f"{str(url).rstrip('/')}.journal"


def remove(url: str) -> None:
    """Remove a store and what is left of its writing."""
    delete(url)
    delete(journal(url))


def delete(url: str) -> None:
    """Remove everything at and below a place; harmless when there is nothing."""
    fs, path = _filesystem(url)
    with reached(url):
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    if remote(url):
        fs = _remote_filesystem(str(url), asynchronous=False)
    else:
        fs = fsspec.filesystem("file", auto_mkdir=True)
    return fs, _inside(fs, url)


def _inside(fs: fsspec.AbstractFileSystem, url: str) -> str:
    return str(fs._strip_protocol(str(url))).rstrip("/")


def _remote_filesystem(url: str, *, asynchronous: bool) -> fsspec.AbstractFileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    protocol = fsspec.utils.get_protocol(url)
    return _shared_filesystem(protocol, endpoint, asynchronous, os.getpid())


@functools.lru_cache(maxsize=8)
def _shared_filesystem(
    protocol: str, endpoint: str | None, asynchronous: bool, process: int
) -> fsspec.AbstractFileSystem:
    """Give one client for all threads of a process: making one takes half a second."""
    # What other processes write must be seen at once.
    options: dict[str, Any] = {"asynchronous": asynchronous, "use_listings_cache": False}
    if protocol == "s3":
        # With more at once, each read of an object is preceded by a question for its size.
        options |= {"endpoint_url": endpoint, "max_concurrency": 1}
    return fsspec.filesystem(protocol, **options)

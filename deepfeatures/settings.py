"""The workspace: the folder that holds what a user makes, and the environment, read once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PORT = 5006
"""Port of the server unless ``PORT`` says otherwise."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""What a cube, a model or an area may be called."""


@dataclass(frozen=True)
class Workspace:
    """A folder with the user's catalogue, cubes, models and jobs."""

    home: Path
    """The folder itself, absolute."""

    @property
    def catalog(self) -> Path:
        """The intake catalogue of this workspace."""
        return self.home / "catalog.yaml"

    @property
    def cubes(self) -> Path:
        """Folder of the Zarr stores."""
        return self.home / "cubes"

    @property
    def models(self) -> Path:
        """Folder of the checkpoints trained here."""
        return self.home / "models"

    @property
    def jobs_db(self) -> Path:
        """SQLite database of the jobs."""
        return self.home / "jobs.db"

    @property
    def roots(self) -> tuple[str, ...]:
        """URL prefixes below which cubes may lie as well.

        The lines of the file ``roots`` in the workspace, and the words in ``DEEPFEATURES_ROOTS``.
        """
        file = self.home / "roots"
        lines = file.read_text().splitlines() if file.is_file() else []
        listed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return (*listed, *os.environ.get("DEEPFEATURES_ROOTS", "").split())


def workspace(home: str | os.PathLike[str] | None = None) -> Workspace:
    """Give the workspace and make its folder if it is missing.

    Parameters
    ----------
    home
        Folder; by default ``DEEPFEATURES_HOME``, else ``workspace`` where the user stands.

    Raises
    ------
    ValueError
        If the path exists and is no folder, or the folder can not be made.
    """
    path = Path(home or os.environ.get("DEEPFEATURES_HOME") or "workspace").expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the workspace {str(path)!r} can not be made ({error.strerror}); "
            "choose another folder with --home or DEEPFEATURES_HOME"
        ) from error
    return Workspace(path)


def cache() -> tuple[Path, int] | None:
    """Give the folder for what is computed again and again, and how many bytes it may take.

    The folder is named by ``DEEPFEATURES_CACHE``, the bytes by ``DEEPFEATURES_CACHE_BYTES``
    (10 GB unless it says otherwise); None if no folder is named.

    Raises
    ------
    ValueError
        If the number of bytes is none.
    """
    place = os.environ.get("DEEPFEATURES_CACHE")
    if not place:
        return None
    text = os.environ.get("DEEPFEATURES_CACHE_BYTES") or "10000000000"
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"DEEPFEATURES_CACHE_BYTES is {text!r}; it must be a whole number")
    return Path(place).expanduser().resolve(), int(text)


def port() -> int:
    """Give the port of the server: ``PORT`` from the environment, else 5006.

    Raises
    ------
    ValueError
        If ``PORT`` is no port number.
    """
    text = os.environ.get("PORT") or str(PORT)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"PORT is {text!r}; it must be a number from 1 to 65535")
    return int(text)


def checked_name(name: str) -> str:
    """Return `name` if it may name a cube, a model or an area.

    Raises
    ------
    ValueError
        If it holds anything but letters, digits, ``-`` and ``_``.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"the name {name[:120]!r} can not be used; take letters, digits, '-' and '_' "
            "(100 at most)"
        )
    return name

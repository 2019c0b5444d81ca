"""Minicubes in the form of DeepExtremeCubes: assembled, written, updated part by part, listed."""

from deepfeatures.minicube.assembly import Sources, assemble, components
from deepfeatures.minicube.files import open, register, update, write
from deepfeatures.minicube.parts import VERSIONS, Component
from deepfeatures.minicube.recipe import make, refresh

__all__ = [
    "VERSIONS", "Component", "Sources", "assemble", "components", "make", "open", "refresh",
    "register", "update", "write",
]  # fmt: skip

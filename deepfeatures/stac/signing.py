"""Links that must be signed before they can be read."""

from __future__ import annotations

from collections.abc import Callable

import requests

from deepfeatures.stac.providers import provider


def signer(catalog: str) -> Callable[[str], str]:
    """Give the function that makes a link of a catalogue readable.

    Parameters
    ----------
    catalog
        Preset name or address; links of catalogues that need no signing stay as they are.
    """
    preset = provider(catalog)
    return _planetary_computer if preset and preset.signed else str


def _planetary_computer(href: str) -> str:
    import planetary_computer  # only this provider needs it

    try:
        # the package keeps its token until shortly before it expires
        return planetary_computer.sign_url(href)
    except requests.RequestException:
        raise ConnectionError(
            "the Planetary Computer does not sign the links; check the network"
        ) from None

"""What the views read, as plain calls into the package; all of it is slow, so goes in a thread."""

from app.reads import areas, cubes, find, gpp, latent, times

__all__ = ["areas", "cubes", "find", "gpp", "latent", "times"]

"""Feature Data Cubes: from a catalogue of scenes to learned features per pixel and date.

Rooms are imported by name (``from deepfeatures import store, cube``), so that nothing heavy
loads unasked.
"""

__version__ = "0.1.0"

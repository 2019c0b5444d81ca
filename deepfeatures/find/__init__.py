"""Find, group, classify and compare pixels by their features: arrays in, arrays out.

Everywhere `vectors` are ``(time, feature, pixel)`` in units of the spread of the cube (mean 0,
deviation 1 per feature), with NaN where a pixel is not usable on a date.
"""

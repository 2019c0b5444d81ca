"""Gross primary production (GPP) of flux towers, learned from weather and what satellites see.

From a table of towers (`readers`) to daily series (`towers`), windows of them (`windows`) and
splits that leak nothing (`splits`); networks (`networks`) and simpler models (`baselines`) that
are judged by the same scores (`metrics`, `evaluation`) and asked for what they rest on
(`importance`). GPP is in gC m-2 d-1 everywhere, uptake positive.
"""

"""What features must give that a projection of one date can not, as ratios from the table."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from deepfeatures.embed.evaluate.table import TASKS, summary


@dataclass(frozen=True)
class Claim:
    """One comparison."""

    region: str
    """Where."""
    task: str
    """Key of `TASKS`."""
    against: str
    """The simple thing."""
    value: float
    """Ratio of the errors or distances; for probes the difference of the scores."""
    goal: float
    """Largest ratio, or least difference, that keeps the claim."""

    @property
    def kept(self) -> bool:
        """Whether the claim holds."""
        return self.value >= self.goal if TASKS[self.task].higher else self.value <= self.goal


def claims(table: pd.DataFrame, subject: str) -> list[Claim]:
    """Compare a subject of a table with the simple things, per region.

    Withheld dates: at most 0.7 of linear interpolation and 0.8 of the median and of the
    neighbourhood's components, with the mask as delivered; seen dates: at most as wrong as
    components of equal size; haze: at most half as far; probes: at least as good.

    Parameters
    ----------
    table
        From `evaluate`.
    subject
        Name of a representation.

    Raises
    ------
    KeyError
        If the table has no such subject.
    """
    short = summary(table)
    names = list(dict.fromkeys(table["representation"]))
    if subject not in names:
        raise KeyError(f"the table has no {subject!r}; it has {', '.join(names)}")
    size = table[table["representation"] == subject]["size"].iloc[0]
    means = short.set_index(["region", "task", "representation"])["mean"].to_dict()
    plain = [n for n in names if n == f"PCA {size}"]
    near = [n for n in names if n.startswith(f"PCA {size} of ")]
    goals = [("withheld", "linear interpolation", 0.7), ("withheld", "median of five dates", 0.8)]
    goals += [("withheld", name, 0.8) for name in near]
    kept = (("seen", 1.0), ("seen, clear targets", 1.0), ("haze", 0.5))
    goals += [(task, name, goal) for name in plain for task, goal in kept]
    goals += [(t, n, 0.0) for n in plain for t in TASKS if TASKS[t].group == "probes"]
    found = []
    for region in dict.fromkeys(short["region"]):
        for task, against, goal in goals:
            ours, theirs = (means.get((region, task, name)) for name in (subject, against))
            if ours is None or theirs is None:
                continue
            value = ours - theirs if TASKS[task].higher else ours / theirs
            found.append(Claim(region, task, against, float(value), goal))
    return found

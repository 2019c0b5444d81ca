"""Jobs of a workspace: asked for, watched, cancelled, asked for again; they survive a restart."""

from deepfeatures.jobs.asking import estimate, measured, rate, retry, submit
from deepfeatures.jobs.logs import MAX_LOG, log, log_text
from deepfeatures.jobs.records import (
    MAX_ATTEMPTS,
    TRANSITIONS,
    cancel,
    check_owner,
    claim,
    fail,
    finish,
    get,
    listing,
    mine,
    move,
    progress,
    recover,
    seen,
)
from deepfeatures.kinds import DEFAULT_RATE

__all__ = [
    "DEFAULT_RATE", "MAX_ATTEMPTS", "MAX_LOG", "TRANSITIONS",
    "cancel", "check_owner", "claim", "estimate", "fail", "finish", "get", "listing", "log",
    "log_text", "measured", "mine", "move", "progress", "rate", "recover", "retry", "seen",
    "submit",
]  # fmt: skip

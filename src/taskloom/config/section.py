"""What every section of a run file is made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every part of a run file: unknown keys are faults, and so are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, populate_by_name=True)

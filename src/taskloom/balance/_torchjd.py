"""torchjd's methods as balances: a row that describes each, and a bridge that it goes over."""

from __future__ import annotations

import functools

from taskloom.balance import _torchjd_gradients as gradients
from taskloom.balance import _torchjd_kept as kept
from taskloom.balance import _torchjd_losses as losses
from taskloom.balance._aggregations import AGGREGATIONS
from taskloom.balance._bridges import Bridge, GramianBridge, LossBridge
from taskloom.balance._room import ROWS
from taskloom.room import class_name

OWN_BRIDGES: dict[str, type[Bridge]] = {
    "cagrad": gradients.CAGrad,
    "config": gradients.ConFIG,
    "constant": losses.Constant,
    "cr_mogm": kept.CrMogm,
    "dualproj": gradients.Projecting,
    "dwa": losses.Dwa,
    "excess_mtl": kept.ExcessMtl,
    "fairgrad": gradients.FairGrad,
    "famo": losses.Famo,
    "geometric_mean": losses.GeometricMean,
    "graddrop": gradients.GradDrop,
    "gradvac": kept.GradVac,
    "imtl_g": gradients.ImtlG,
    "imtl_l": losses.ImtlL,
    "krum": gradients.Krum,
    "modo": kept.MoDo,
    "pbi": losses.Pbi,
    "pcd": kept.Pcd,
    "sdmgrad": kept.SdmGrad,
    "stch": losses.Stch,
    "trimmed_mean": gradients.TrimmedMean,
    "upgrad": gradients.Projecting,
    "uw": losses.Uw,
}
"""Name -> the bridge of a method that needs more than its constructor."""


@functools.cache
def bridge(name: str) -> type[Bridge]:
    """Make the class of one method out of its row."""
    row = ROWS[name]
    base = OWN_BRIDGES.get(name, GramianBridge if name in AGGREGATIONS else LossBridge)
    members = {
        "__doc__": row.document(),
        "__module__": __name__,
        "row": row,
        "needs": row.needs,
        "total": row.total,
        "takes_preference": row.takes_preference,
        "minimum_tasks": row.minimum_tasks,
        "draws": row.draws,
        "conflict_free": row.conflict_free,
        "scales": row.scales,
    }
    return type(class_name(name), (base,), members)

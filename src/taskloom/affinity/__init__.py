"""What training one task does for another, from the probes of a joint run or from runs; no torch."""

from taskloom.affinity.matrix import Transfer
from taskloom.affinity.probes import Probe, read_probes
from taskloom.affinity.reading import read_transfers

__all__ = ["Probe", "Transfer", "read_probes", "read_transfers"]

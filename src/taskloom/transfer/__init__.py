"""Probing a joint run for transfer: gradients on training rows and on held-out rows, beside the training."""

from taskloom.transfer.probing import TransferProbe, probe_schedule

__all__ = ["TransferProbe", "probe_schedule"]

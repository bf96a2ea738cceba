"""Which tasks rise and fall together: scores over checkpoints and over runs, losses over steps."""

from taskloom.correlation.measuring import Correlation, correlate

__all__ = ["Correlation", "correlate"]

"""Whether probabilities mean what they say: measured, mended by one temperature a task, and used in prediction.

`measuring` and `temperature` are numpy and scipy alone; `run` does it for a finished run.
"""

"""A run as it goes, read from its folder alone: what was appended since last looked, summed up and drawn.

Nothing here imports torch, and nothing that a run folder names is imported: the folder may come from anyone.
"""

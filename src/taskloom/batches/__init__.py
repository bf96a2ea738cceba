"""From items to steps: which rows each step draws, and how a step is cut into rectangles of like length."""

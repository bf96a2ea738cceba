"""Training: the objective, the Trainer, and what is shown and written while it runs."""

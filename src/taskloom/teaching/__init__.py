"""What a model learns from models: a teacher's lessons, and labels that a run gives to texts itself."""

"""Training: the step, the trainer around it, checkpoints, events and reporters."""

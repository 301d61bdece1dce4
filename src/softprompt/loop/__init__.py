"""What every training shares: optimizers, schedules, checkpoints, progress, interrupts and trackers."""

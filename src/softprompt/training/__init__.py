"""Training of prompts: many runs on one backbone in one session."""

from softprompt.training.results import RunResult, TrainResult
from softprompt.training.run import Run, TrainConfig
from softprompt.training.session import train

__all__ = ["Run", "RunResult", "TrainConfig", "TrainResult", "train"]

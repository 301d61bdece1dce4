"""Training of prompts: many runs on one backbone in one session; and of the model itself, to compare with."""

from softprompt.training.learners import MODEL_TUNING, ModelTuning
from softprompt.training.results import RunResult, TrainResult
from softprompt.training.run import Run, TrainConfig
from softprompt.training.session import train

__all__ = ["MODEL_TUNING", "ModelTuning", "Run", "RunResult", "TrainConfig", "TrainResult", "train"]

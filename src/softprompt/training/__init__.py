"""Training of prompts: many runs on one backbone in one session; and of weights, to compare with."""

from softprompt.training.estimate import Estimate, estimate_memory
from softprompt.training.methods import find_method
from softprompt.training.results import RunResult, TrainResult
from softprompt.training.run import Run, TrainConfig
from softprompt.training.session import train
from softprompt.training.weights import IA3, WEIGHT_METHODS, LoRA, ModelTuning, WeightMethod

__all__ = [
    "IA3",
    "WEIGHT_METHODS",
    "Estimate",
    "LoRA",
    "ModelTuning",
    "Run",
    "RunResult",
    "TrainConfig",
    "TrainResult",
    "WeightMethod",
    "estimate_memory",
    "find_method",
    "train",
]

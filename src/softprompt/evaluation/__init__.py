"""How good is what predicts: metrics with intervals, every prediction, baselines, and paired comparisons."""

from softprompt.evaluation.baselines import TextPrompt, evaluate_majority
from softprompt.evaluation.comparison import Comparison, compare
from softprompt.evaluation.job import Job
from softprompt.evaluation.measuring import evaluate, evaluate_many
from softprompt.evaluation.recording import read_evaluation
from softprompt.evaluation.result import Evaluation, Interval, Prediction
from softprompt.evaluation.ways import By, choose_way

__all__ = [
    "By",
    "Comparison",
    "Evaluation",
    "Interval",
    "Job",
    "Prediction",
    "TextPrompt",
    "choose_way",
    "compare",
    "evaluate",
    "evaluate_majority",
    "evaluate_many",
    "read_evaluation",
]

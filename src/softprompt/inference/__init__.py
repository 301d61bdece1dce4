"""Batched prediction: many inputs, any prompts, in batches that waste little; results in the inputs' order."""

from softprompt.inference.batching import BatchLimits
from softprompt.inference.engine import Engine
from softprompt.inference.ensembles import Ensemble
from softprompt.inference.generating import predict_texts
from softprompt.inference.prompt_cache import Lease
from softprompt.inference.prompt_folder import PromptFolder
from softprompt.inference.queries import Query, make_queries
from softprompt.inference.ranking import Choice, calibrated, classify
from softprompt.inference.requests import Answer, Piece, Request, Ticket
from softprompt.inference.sampling import Sampling
from softprompt.inference.together import Together

__all__ = [
    "Answer",
    "BatchLimits",
    "Choice",
    "Engine",
    "Ensemble",
    "Lease",
    "Piece",
    "PromptFolder",
    "Query",
    "Request",
    "Sampling",
    "Ticket",
    "Together",
    "calibrated",
    "classify",
    "make_queries",
    "predict_texts",
]

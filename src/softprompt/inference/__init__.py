"""Batched prediction: many inputs, any prompts, in batches that waste little; results in the inputs' order."""

from softprompt.inference.batching import BatchLimits
from softprompt.inference.generating import predict_texts
from softprompt.inference.queries import Query, make_queries
from softprompt.inference.ranking import Choice, calibrated, classify

__all__ = ["BatchLimits", "Choice", "Query", "calibrated", "classify", "make_queries", "predict_texts"]

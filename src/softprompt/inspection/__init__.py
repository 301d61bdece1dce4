"""What prompts have learned: words, norms, similarity, attention, importance, attribution."""

from softprompt.inspection.attention import AttentionBand, LayerAttention, attention_mass
from softprompt.inspection.attribution import Attribution, attribute
from softprompt.inspection.importance import Importance, LeftOut, leave_out
from softprompt.inspection.norms import Norms, prompt_norms
from softprompt.inspection.samples import Sample, task_samples, text_sample
from softprompt.inspection.similarity import PromptMap, RowSimilarity, map_prompts, row_similarity
from softprompt.inspection.start import prompt_at_start
from softprompt.inspection.tables import Table, inspection_tables, map_table
from softprompt.inspection.whole import Aspect, Inspection, inspect_prompt
from softprompt.inspection.words import LabelTrace, NearestWords, Neighbour, label_traces, nearest_words

__all__ = [
    "Aspect",
    "AttentionBand",
    "Attribution",
    "Importance",
    "Inspection",
    "LabelTrace",
    "LayerAttention",
    "LeftOut",
    "NearestWords",
    "Neighbour",
    "Norms",
    "PromptMap",
    "RowSimilarity",
    "Sample",
    "Table",
    "attention_mass",
    "attribute",
    "inspect_prompt",
    "inspection_tables",
    "label_traces",
    "leave_out",
    "map_prompts",
    "map_table",
    "nearest_words",
    "prompt_at_start",
    "prompt_norms",
    "row_similarity",
    "task_samples",
    "text_sample",
]

"""What is learned: soft prompts, the methods that make them, and how they start."""

from softprompt.prompts.members import Combine, Members
from softprompt.prompts.methods import MultitaskPrompt, PrefixTuning, PromptTuning, PTuning, PTuningV2
from softprompt.prompts.prompt import PromptInfo, PromptTensors, SoftPrompt

__all__ = [
    "Combine",
    "Members",
    "MultitaskPrompt",
    "PTuning",
    "PTuningV2",
    "PrefixTuning",
    "PromptInfo",
    "PromptTensors",
    "PromptTuning",
    "SoftPrompt",
]

"""The methods that make prompts: settings classes, a file for each."""

from softprompt.prompts.methods.multitask import MultitaskPrompt
from softprompt.prompts.methods.p_tuning import PTuning
from softprompt.prompts.methods.prefix_tuning import PrefixTuning, PTuningV2
from softprompt.prompts.methods.prompt_tuning import PromptTuning

__all__ = ["MultitaskPrompt", "PTuning", "PTuningV2", "PrefixTuning", "PromptTuning"]

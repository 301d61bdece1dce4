"""The papers that a study's methods come from."""

from __future__ import annotations

from softprompt.studies import Grid

__all__ = ["PAPERS", "references_of"]

PAPERS = {
    "lester": "Lester, Al-Rfou, Constant 2021. The Power of Scale for Parameter-Efficient Prompt Tuning. arXiv"
    " 2104.08691.",
    "li": "Li, Liang 2021. Prefix-Tuning: Optimizing Continuous Prompts for Generation. arXiv 2101.00190.",
    "p_tuning": "Liu et al. 2021. GPT Understands, Too. arXiv 2103.10385.",
    "p_tuning_v2": "Liu et al. 2022. P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across"
    " Scales and Tasks. arXiv 2110.07602.",
    "multitask": "Wang et al. 2023. Multitask Prompt Tuning Enables Parameter-Efficient Transfer Learning. arXiv"
    " 2303.02861.",
    "lora": "Hu et al. 2022. LoRA: Low-Rank Adaptation of Large Language Models. arXiv 2106.09685.",
    "ia3": "Liu et al. 2022. Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning."
    " arXiv 2205.05638.",
    "text": "Brown et al. 2020. Language Models are Few-Shot Learners. arXiv 2005.14165.",
    "calibrate": "Zhao et al. 2021. Calibrate Before Use: Improving Few-Shot Performance of Language Models. arXiv"
    " 2102.09690.",
    "t5": "Raffel et al. 2020. Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer. arXiv"
    " 1910.10683.",
}  # fmt: skip

_OF_METHOD = {
    "prompt_tuning": "lester",
    "prefix_tuning": "li",
    "p_tuning": "p_tuning",
    "p_tuning_v2": "p_tuning_v2",
    "multitask_prompt_tuning": "multitask",
    "lora": "lora",
    "ia3": "ia3",
    "text_prompt": "text",
}


def references_of(grid: Grid) -> tuple[str, ...]:
    """The two papers that every study stands on, and those of its other methods.

    Args:
        grid: Of the study.
    """
    methods = list(grid.methods.values())
    keys = ["lester", "li", *(_OF_METHOD.get(str(method["method"]), "") for method in methods)]
    if any(method.get("calibrate") for method in methods):
        keys.append("calibrate")
    return tuple(PAPERS[key] for key in dict.fromkeys(keys) if key)

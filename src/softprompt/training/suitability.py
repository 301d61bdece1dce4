"""Whether an encoder has, or is brought, a head for what a task's targets are; other models answer in text."""

from __future__ import annotations

from softprompt.backbones import Backbone
from softprompt.errors import UnsupportedError
from softprompt.prompts.registry import Method, brings_head
from softprompt.tasks import Task
from softprompt.training.weights import WeightMethod

__all__ = ["check_suits"]


def check_suits(backbone: Backbone, method: Method | WeightMethod | None, task: Task) -> None:
    """Refuse a method by which a backbone could not answer a task.

    Args:
        backbone: The frozen model.
        method: What is to be trained; None for the bare backbone.
        task: What is to be learned, or answered.

    Raises:
        UnsupportedError: If the backbone is an encoder and the targets are free text; or the method brings no head, and
            the targets are tags or spans, or the backbone's head was not trained or has another number of classes.
    """
    if backbone.spec.kind != "encoder-only":
        return
    if task.labels is None and task.tags is None and task.context is None:
        raise UnsupportedError(
            f"{backbone.name} is encoder-only and writes no text, but the targets of {task.name} are free text; give "
            "label_words, name the words that are tagged (words), or the column that answers stand in (context)."
        )
    tunes = isinstance(method, WeightMethod)
    if not (method is None or isinstance(method, WeightMethod)) and brings_head(method):
        return
    if task.labels is None:
        targets = "tags of words" if task.tags is not None else f"answers in {task.context!r}"
        raise UnsupportedError(
            f"The targets of {task.name} are {targets}, for which {backbone.name} has no head; train a prompt with "
            "head=True, by prompt_tuning, prefix_tuning or p_tuning_v2."
        )
    if backbone.has_untrained_head and not (tunes and backbone.classifies):
        raise UnsupportedError(
            f"{backbone.name} has no head that was trained, and nothing brings one; train a prompt with head=True, by "
            "prompt_tuning, prefix_tuning or p_tuning_v2."
        )
    classes = backbone.model.config.num_labels
    if len(task.labels) != classes:
        raise UnsupportedError(
            f"The task {task.name} has {len(task.labels)} label words, but the head of {backbone.name} has {classes} "
            "classes; give label_words for each class, in the head's order, or train a prompt with head=True."
        )

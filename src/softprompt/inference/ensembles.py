"""An ensemble of prompts on one backbone: it answers like a prompt, with a row of the batch for each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.inference.generating import predict_texts
from softprompt.inference.queries import make_queries
from softprompt.inference.ranking import Choice, classify
from softprompt.inference.together import Together
from softprompt.prompts import Combine, Members, SoftPrompt

__all__ = ["Ensemble"]


@final
class Ensemble:
    """Several prompts that answer each input together, in one forward pass.

    Args:
        backbone: The frozen model.
        prompts: The members, e.g. the same run with other seeds.
        combine: `vote`: what most of them say; `mean`: what is most probable by the mean of their probabilities, of
            labels or, where text is generated, of each next token.

    Raises:
        ConfigError: If there is no prompt, prompts read their inputs in different formats, or there is no such way to
            combine them.
        MismatchError: If a prompt was made for another backbone.

    References:
        Lester et al. 2021, §6 (majority vote).
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[SoftPrompt], *, combine: Combine = "vote") -> None:
        self.members = Members(prompts, combine)
        named = {f"member {place}": prompt for place, prompt in enumerate(prompts)}
        self.model = Prompted(backbone, named)
        self.prompt = Together(tuple(named), combine)

    @classmethod
    def load(cls, backbone: Backbone, path: str | Path) -> Ensemble:
        """An ensemble that was saved, on its backbone.

        Raises:
            ArtefactError: If the folder is missing, damaged or foreign.
            MismatchError: If it was made for another backbone.
        """
        members = Members.load(path)
        return cls(backbone, members.prompts, combine=members.combine)

    def save(self, path: str | Path) -> Path:
        """Write all members and how they are combined as one folder; atomically.

        Raises:
            ArtefactError: If something else is there.
        """
        return self.members.save(path)

    def classify(
        self,
        inputs: Sequence[str | Mapping[str, Any]],
        candidates: Sequence[str] | None = None,
        *,
        raw: bool = False,
        **settings: Any,
    ) -> list[Choice]:
        """Choose a candidate for each input.

        Args:
            inputs: Texts, or the columns of rows by name.
            candidates: What to choose from; None takes the label words that the members were trained with.
            raw: Whether texts are taken as they are, without the members' template.
            **settings: What `classify` takes besides, such as `limits`.

        Raises:
            ConfigError: If there are no candidates.
            LengthError: If an input is too long.
        """
        labels = tuple(candidates) if candidates is not None else self._labels()
        queries = make_queries(self.model, [(one, self.prompt) for one in inputs], raw=raw, candidates=labels)
        return list(classify(self.model, queries, **settings))

    def generate(
        self, inputs: Sequence[str | Mapping[str, Any]], *, raw: bool = False, max_new_tokens: int = 128, **options: Any
    ) -> list[str]:
        """Generate a text for each input: the one that most members say, or by the mean of their next tokens.

        Args:
            inputs: Texts, or the columns of rows by name.
            raw: Whether texts are taken as they are, without the members' template.
            max_new_tokens: Longest text.
            **options: What `predict_texts` takes besides, such as `num_beams`.

        Raises:
            ConfigError: If text is to be sampled.
            LengthError: If an input is too long.
        """
        asked = [(one, self.prompt) for one in inputs]
        queries = make_queries(self.model, asked, raw=raw, max_new_tokens=max_new_tokens)
        return list(predict_texts(self.model, queries, **options))

    def _labels(self) -> tuple[str, ...]:
        words = (self.members.info.format or {}).get("label_words") or {}
        if not words:
            raise ConfigError("These prompts were trained without label words; say candidates=[...], or generate.")
        return tuple(dict.fromkeys(words.values()))

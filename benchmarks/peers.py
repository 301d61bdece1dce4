"""The same work done by softprompt and by PEFT, from the same weights, prompts and rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import softprompt as sp
from benchmarks.shapes import Weights, build_backbone, build_model
from softprompt.conditioning.losses import IGNORED
from softprompt.conditioning.padding import pad_rows
from softprompt.conditioning.splitting import start_cost
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.inference.batching import BatchLimits, run_batches
from softprompt.inference.encoding import columns
from softprompt.inference.queries import EncodedQuery
from softprompt.prompts.registry import Method
from softprompt.training.data import TrainRow, collate
from softprompt.training.step import backward_in_memory

__all__ = ["TASK", "Ours", "Peft", "peft_is_installed"]

PASS_TOKENS = sp.TrainConfig().pass_tokens
RATE = 0.01
TASK = "task"


def peft_is_installed() -> bool:
    """Whether there is a peer to compare with."""
    try:
        import peft  # noqa: F401
    except ImportError:
        return False
    return True


class Ours:
    """A backbone with prompts of one method, each under a name and with an optimizer of its own."""

    def __init__(self, shape: str, methods: Sequence[Method], weights: Weights) -> None:
        self.backbone = build_backbone(shape, weights)
        prompts = {self.name_of(index): m.build(self.backbone, seed=index) for index, m in enumerate(methods)}
        self.model = sp.Prompted(self.backbone, prompts)
        self.optimizers = {name: torch.optim.AdamW(prompt.parameters(), lr=RATE) for name, prompt in prompts.items()}

    @staticmethod
    def name_of(index: int) -> str:
        """The name of a prompt by its number."""
        return TASK if index == 0 else f"{TASK}{index}"

    def step(self, batches: dict[str, Sequence[TrainRow]]) -> dict[str, float]:
        """One training step of the runs, as a session takes it; their losses."""
        losses, _ = backward_in_memory(
            self.model, batches, precision="float32", pass_tokens=PASS_TOKENS, say=lambda text: None
        )
        for name in batches:
            self.optimizers[name].step()
            self.optimizers[name].zero_grad(set_to_none=True)
        return losses

    @torch.no_grad()
    def loss(self, rows: Sequence[TrainRow]) -> Tensor:
        """The mean over the labelled tokens."""
        loss = self.model(**collate(self.backbone, rows), prompts=[row.prompt for row in rows]).loss
        assert loss is not None
        return loss

    def score(self, rows: Sequence[TrainRow], labels: Sequence[list[int]]) -> Tensor:
        """Log-probabilities of labels, `[batch, labels]`, in one batch."""
        return self._score([EncodedInput(row.input, row.marks) for row in rows], [row.prompt for row in rows], labels)

    @torch.no_grad()
    def _score(
        self, inputs: Sequence[EncodedInput], prompts: Sequence[str | None], labels: Sequence[list[int]]
    ) -> Tensor:
        ids, mask, marks = collate_inputs(self.backbone, inputs)
        return self.model.score_ids(ids, mask, [list(labels)] * len(inputs), prompts=prompts, marks=marks)

    def answer(self, rows: Sequence[TrainRow], labels: Sequence[list[int]], *, batch: int = 64) -> list[Tensor]:
        """Log-probabilities of labels, in the batches that inference makes of requests, of at most `batch` rows."""
        limits, start = BatchLimits(rows=batch), start_cost(self.backbone.device)
        return run_batches(
            [self._request(row, labels) for row in rows],
            lambda batch: list(self._score([one.input for one in batch], [one.prompt for one in batch], labels)),
            limits=limits,
            start=start,
        )

    def _request(self, row: TrainRow, labels: Sequence[list[int]]) -> EncodedQuery:
        room = max(map(len, labels))
        return EncodedQuery(
            input=EncodedInput(row.input, row.marks),
            prompt=row.prompt,
            tokens=columns(self.model, len(row.input), row.prompt, labels, room),
            room=room,
            targets=labels,
            candidates=(),
        )

    def generate(self, rows: Sequence[TrainRow], tokens: int) -> Tensor:
        """So many tokens behind each row."""
        ids, mask = pad_rows([row.input for row in rows], fill=0)
        made: Tensor = self.model.generate(
            input_ids=ids.to(self.backbone.device),
            attention_mask=mask.to(self.backbone.device),
            prompts=[row.prompt for row in rows],
            **_exactly(tokens),
        )
        return made


class Peft:
    """The same prompt in PEFT; `best` is its best documented use, otherwise its default one.

    The default use pads rows on the right and takes the model's own loss over all logits. The best one computes no
    logits but those behind the inputs (`logits_to_keep`, which needs padding on the left), in a decoder-only model.
    """

    def __init__(self, shape: str, prompt: sp.SoftPrompt, weights: Weights) -> None:
        import peft

        base = build_model(shape, weights)
        self.encoder_decoder = bool(base.config.is_encoder_decoder)
        with tempfile.TemporaryDirectory() as folder:
            sp.save_peft(prompt, folder)
            config = peft.PeftConfig.from_pretrained(folder, inference_mode=False)  # as it is read, nothing is trained
            self.model = peft.get_peft_model(base, config).eval()
            peft.set_peft_model_state_dict(self.model, load_file(Path(folder) / "adapter_model.safetensors"))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=RATE)

    def step(self, rows: Sequence[TrainRow], *, best: bool) -> float:
        """One training step; its loss."""
        loss = self.loss(rows, best=best)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def loss(self, rows: Sequence[TrainRow], *, best: bool) -> Tensor:
        """The mean over the labelled tokens."""
        if self.encoder_decoder:
            ids, mask = self._padded([row.input for row in rows], fill=0)
            labels, _ = self._padded([row.target for row in rows], fill=IGNORED)
            return self._own_loss(ids, mask, labels)
        if best:
            logits, labels = self._kept(rows, [row.target for row in rows])
            return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        ids, mask = self._padded([[*row.input, *row.target] for row in rows], fill=0)
        labels, _ = self._padded([[IGNORED] * len(row.input) + row.target for row in rows], fill=IGNORED)
        return self._own_loss(ids, mask, labels)

    def _own_loss(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss
        return loss

    @torch.no_grad()
    def score(self, rows: Sequence[TrainRow], labels: Sequence[list[int]], *, best: bool) -> Tensor:
        """Log-probabilities of labels, `[batch, labels]`: a pass for each label."""
        return torch.stack([self._scores(rows, label, best=best) for label in labels], dim=1)

    def _scores(self, rows: Sequence[TrainRow], label: list[int], *, best: bool) -> Tensor:
        targets = [label] * len(rows)
        if self.encoder_decoder:
            ids, mask = self._padded([row.input for row in rows], fill=0)
            labels = torch.tensor(targets, device=ids.device)
            logits = self.model(input_ids=ids, attention_mask=mask.long(), labels=labels).logits
        elif best:
            logits, labels = self._kept(rows, targets)
        else:
            ids, mask = self._padded([[*row.input, *label] for row in rows], fill=0)
            labels, _ = self._padded([[IGNORED] * len(row.input) + label for row in rows], fill=IGNORED)
            logits = self.model(input_ids=ids, attention_mask=mask.long()).logits[:, -ids.shape[1] :]
            logits, labels = logits[:, :-1], labels[:, 1:]
        said = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
        return said.masked_fill(labels == IGNORED, 0).sum(-1)

    def _kept(self, rows: Sequence[TrainRow], targets: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Logits where a target is predicted, and the targets; rows are padded on the left."""
        both = [[*row.input, *target] for row, target in zip(rows, targets, strict=True)]
        ids, mask = (part.flip(1) for part in self._padded([row[::-1] for row in both], fill=0))
        labels = self._padded([target[::-1] for target in targets], fill=IGNORED)[0].flip(1)
        kept = labels.shape[1] + 1
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask.long(), logits_to_keep=kept).logits
        return logits[:, -kept:-1], labels

    def _padded(self, rows: list[list[int]], *, fill: int) -> tuple[Tensor, Tensor]:
        ids, mask = pad_rows(rows, fill=fill)
        return ids.to(self.model.device), mask.to(self.model.device)

    def generate(self, rows: Sequence[TrainRow], tokens: int) -> Tensor:
        """So many tokens behind each row."""
        ids, mask = self._padded([row.input if self.encoder_decoder else row.input[::-1] for row in rows], fill=0)
        if not self.encoder_decoder:
            ids, mask = ids.flip(1), mask.flip(1)
        made: Tensor = self.model.generate(input_ids=ids, attention_mask=mask.long(), **_exactly(tokens))
        return made


def _exactly(tokens: int) -> dict[str, Any]:
    return {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}

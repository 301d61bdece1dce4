"""What training changes, by exact name: the prompt's parameters, and nothing of the backbone."""

from __future__ import annotations

import pytest
import torch
from tests.training.sessions import calm_backbone, short_run, trained

from softprompt.backbones.fingerprint import fingerprint
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training.member import Member

ROWS = {"parametrization.rows"}


def direct(*stacks):
    return {f"parametrization.keys_values.{stack}" for stack in stacks}


def mlp(*stacks):
    linear = [f"{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    return {f"parametrization.rows.{stack}" for stack in stacks} | {
        f"parametrization.mlp.{stack}.{part}" for stack in stacks for part in linear
    }


T5 = ("encoder", "cross", "decoder")
CASES = [
    ("decoder-only", PromptTuning(length=3), ROWS),
    ("encoder-decoder", PromptTuning(length=3, placement="append"), ROWS),
    ("encoder-only", PromptTuning(length=3), ROWS),
    ("decoder-only", PrefixTuning(length=2, hidden=None), direct("decoder")),
    ("encoder-decoder", PrefixTuning(length=2, hidden=None), direct(*T5)),
    ("encoder-decoder", PrefixTuning(length=2, hidden=None, cross=False), direct("encoder", "decoder")),
    ("encoder-only", PrefixTuning(length=2, hidden=None), direct("encoder")),
    ("decoder-only", PrefixTuning(length=2, hidden=6), mlp("decoder")),
    ("encoder-decoder", PrefixTuning(length=2, hidden=6), mlp(*T5)),
    ("encoder-only", PrefixTuning(length=2, hidden=6), mlp("encoder")),
]


@pytest.mark.parametrize(("kind", "method", "names"), CASES)
def test_exactly_the_prompt_is_trained(kind, method, names, monkeypatch):
    backbone = calm_backbone(kind)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    printed = backbone.fingerprint
    changed: dict[str, bool] = {}
    finish = Member.finish

    def compare(self):
        start = self.run.method.build(backbone, self.run.task, self.run.seed).state_dict()
        changed.update(
            {name: not torch.equal(value, start[name]) for name, value in self.learner.module.state_dict().items()}
        )
        finish(self)

    monkeypatch.setattr(Member, "finish", compare)
    trained(kind, [short_run(method=method, steps=2)], gradient_checkpointing=True)
    assert {name for name, is_changed in changed.items() if is_changed} == names
    after = backbone.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert fingerprint(backbone.model) == printed
    assert not backbone.model.training
    assert not backbone.model.is_activation_checkpointing
    assert all(p.grad is None and not p.requires_grad for p in backbone.model.parameters())

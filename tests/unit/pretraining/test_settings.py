"""Settings of a pre-training check themselves."""

from __future__ import annotations

from typing import Any

import pytest

from softprompt.config import from_mapping, to_mapping
from softprompt.errors import ConfigError
from softprompt.pretraining.settings import PretrainConfig

GOOD = {"output_dir": "out", "train": ["a.txt"]}


def test_defaults_are_fine_and_survive_a_file() -> None:
    for config in (PretrainConfig(**GOOD), PretrainConfig(**GOOD, snapshots=[1, 9_999])):
        assert from_mapping(PretrainConfig, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "t5-mino"}, r"Unknown model preset 't5-mino'\. Did you mean 't5-mini'"),
        ({"objective": "causal_lm"}, r"Unknown objective for t5-small 'causal_lm'\. Known: prefix_lm, span_corruption"),
        ({"optimizer": "sgd"}, "Unknown optimizer 'sgd'"),
        ({"schedule": "cosinus"}, r"Unknown schedule 'cosinus'\. Did you mean 'cosine'"),
        ({"precision": "fp16"}, "Unknown precision 'fp16'.* Known: bf16, fp32"),
        ({"train": "a.txt"}, "train and held_out are lists of files; put the single file into a list"),
        ({"held_out": "a.txt"}, "train and held_out are lists of files"),
        ({"train": []}, "train names no files; give at least one"),
        ({"steps": 0}, "steps must be above 0, not 0"),
        ({"learning_rate": -0.1}, r"learning_rate must be above 0, not -0\.1"),
        ({"window": 4}, "window must be at least 8 tokens, not 4"),
        ({"steps": 10, "warmup_steps": 11}, r"warmup_steps must lie between 0 and steps \(10\), not 11"),
        ({"weight_decay": -1.0}, r"weight_decay must not be negative, but is -1\.0"),
        ({"seed": -1}, "seed must not be negative, but is -1"),
        ({"threads": 0}, "threads must be above 0, not 0; leave it out for torch's own choice"),
        ({"vocab_size": 70000}, r"vocab_size must fit 16 bits \(65536\), not 70000"),
        ({"steps": 300, "snapshots": [0]}, r"snapshots must be ascending steps between 1 and 299, .* not \[0\]"),
        ({"steps": 300, "snapshots": [5, 300]}, r"snapshots must be .* not \[5, 300\]"),
        ({"snapshots": [7, 5]}, r"snapshots must be .* not \[7, 5\]"),
        ({"snapshots": [5, 5]}, r"snapshots must be .* not \[5, 5\]"),
        ({"start_from": "a", "tokenizer": "b"}, "start_from brings its own tokenizer; leave tokenizer out"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(**{**GOOD, **change})

"""How commands load their backbone: spread over devices, by each of them; and that one process shares with nobody."""

from __future__ import annotations

import json

import pytest
from tests.cli.films import TEMPLATES

from softprompt.backbones import Backbone
from softprompt.errors import BackboneError
from softprompt.serving import replicas

DISK = '{"": disk}'


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "serve"])
def test_a_device_map_is_handed_on(run, command, files, tmp_path, monkeypatch):
    options = {
        "train": (*TEMPLATES, "--train_file", files["train"], "--output_dir", str(tmp_path / "out")),
        "evaluate": (*TEMPLATES, "--validation_file", files["validation"]),
        "predict": ("--by", "generate"),
        "serve": (),
    }

    def from_pretrained(name: str, **settings: object) -> None:
        raise BackboneError(f"{name}, {settings['device_map']}")

    monkeypatch.setattr(Backbone, "from_pretrained", from_pretrained)
    spread = ("--device_map", '{"": 0, "lm_head": cpu}')
    code, _, err = run(command, *options[command], "--backbone", "a/b", *spread)
    assert code == 1, err
    assert err.splitlines()[-1] == "softprompt: a/b, {'': 0, 'lm_head': 'cpu'}"


def test_replicas_are_told_of_it_too(run, monkeypatch):
    told = []
    monkeypatch.setattr(replicas, "serve_on_ray", lambda plan, *rest, **options: told.append(plan.loading))
    code, _, err = run("serve", "--backbone", "a/b", "--ray", "local", "--device_map", "auto", "--revision", "v1")
    assert code == 0, err
    assert told[0]["device_map"] == "auto"
    assert told[0]["revision"] == "v1"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("predict", "--server", "http://127.0.0.1:9", "--prompt", "a"), "--device_map is for a backbone in this"),
        (("serve", "--backbone", "a/b", "--vllm", "http://127.0.0.1:9"), "drop them, or vllm"),
    ],
    ids=["predict", "serve"],
)
def test_what_computes_elsewhere_has_no_devices_here(run, command, told):
    code, _, err = run(*command, "--device_map", "auto")
    assert code == 2
    assert told in err


@pytest.mark.slow
def test_what_was_trained_on_a_spread_backbone_is_scored_and_asked_on_one(run, backbone, files, tmp_path):
    """Only training could spread it: what needed that could be scored and asked by no command."""
    source = tmp_path / "in.txt"
    source.write_text("the film was very good\nthe book was boring\n", encoding="utf-8")
    common = (
        *("train", "--backbone", backbone, *TEMPLATES, "--train_file", files["train"], "--name", "film"),
        *("--validation_file", files["validation"], "--length", "4", "--steps", "3", "--batch_size", "4"),
    )
    scores, answers = [], []
    for name, spread in (("whole", ()), ("spread", ("--device_map", DISK))):
        out, said = tmp_path / name, tmp_path / f"{name}.jsonl"
        assert run(*common, "--output_dir", str(out), *spread)[0] == 0
        asked = ("--backbone", backbone, "--prompt", str(out / "prompts" / "film"), *spread)
        code, table, err = run("evaluate", *asked, "--validation_file", files["validation"])
        assert code == 0, err
        scores.append(table)
        code, _, err = run("predict", *asked, "--input", str(source), "--output", str(said))
        assert code == 0, err
        answers.append([json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()])
    assert scores[0] == scores[1]
    for one, other in zip(*answers, strict=True):
        assert one["output"] == other["output"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-4)


def test_one_process_that_is_to_share_the_backbone_says_that_it_has_it_whole(run, files, tmp_path, monkeypatch):
    """It was loaded whole without a word."""

    def from_pretrained(name: str, **settings: object) -> None:
        raise BackboneError("enough")

    monkeypatch.setattr(Backbone, "from_pretrained", from_pretrained)
    common = ("train", "--backbone", "a/b", *TEMPLATES, "--train_file", files["train"], "--output_dir", str(tmp_path))
    note = "--sharded: one process alone holds all of a/b; start several by torchrun or accelerate launch"
    _, _, err = run(*common, "--sharded", "true")
    assert err.splitlines()[-2] == f"{note} to give each a part."
    assert note not in run(*common)[2]

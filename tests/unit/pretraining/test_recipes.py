"""The family's recipes, and the making of members from a tiny family's."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from softprompt.backbones import catalogue
from softprompt.errors import ConfigError, DataError, TrainingInterrupted
from softprompt.loop.progress import Progress
from softprompt.pretraining import recipes
from softprompt.pretraining.card import read_card
from softprompt.pretraining.corpus import file_digest
from softprompt.pretraining.preparation import prepare_tokenizer
from softprompt.pretraining.tokenizer import save_tokenizer, tokenizer_digest, train_tokenizer

NO_TEXT = recipes.FamilyText(train=("a.jsonl",), held_out=(), licence="CC0")
MILLION_TOKENS = {
    "t5-tiny-span": 30, "t5-tiny": 8, "t5-mini-span": 30, "t5-mini": 8, "t5-small-span": 30, "t5-small": 20,
    "t5-base-span": 300, "t5-base": 50, "gpt-tiny": 30, "gpt-mini": 30, "gpt-small": 30, "gpt-base": 300,
}  # fmt: skip


@pytest.mark.parametrize("name", recipes.member_names())
def test_every_recipe_is_a_pre_training_of_the_tokens_it_is_meant_for(name: str) -> None:
    config = recipes.member_config(name, NO_TEXT)
    assert config.steps * config.batch_size * config.window / 1e6 == pytest.approx(MILLION_TOKENS[name], rel=0.01)
    assert config.preset == name.removesuffix("-span")
    assert (config.output_dir, config.licence, config.compile) == (f"models/{name}", "CC0", True)
    assert recipes.member_config(name, NO_TEXT, compile=False, threads=3).compile is False
    if config.objective == "prefix_lm":
        before = recipes.member_config(f"{name}-span", NO_TEXT)
        assert (config.start_from, config.tokenizer) == (before.output_dir, None)
        assert (before.objective, before.preset) == ("span_corruption", config.preset)
        assert config.learning_rate < before.learning_rate


def test_all_members_are_known() -> None:
    assert sorted(recipes.member_names()) == sorted(MILLION_TOKENS)
    with pytest.raises(ConfigError, match=r"Unknown member of the family 't5-huge'\. .*Known: all, gpt-base"):
        recipes.member_recipe("t5-huge")


def test_the_recipes_text_and_tokenizer_are_the_bundled_backbones() -> None:
    listed = {(entry.file, entry.sha256, entry.use) for entry in recipes.text_files()}
    config = recipes.member_config("gpt-tiny", NO_TEXT)
    tokenizer = tokenizer_digest(prepare_tokenizer(config, Progress(stream=io.StringIO())))
    for name in catalogue.bundled_names():
        card = catalogue.card(name)
        assert {(source["file"], source["sha256"], source["use"]) for source in card["corpus"]} == listed
        assert tokenizer == card["tokenizer_sha256"]


def test_the_tokenizer_may_be_another_or_learned_from_the_text() -> None:
    assert recipes.member_config("gpt-tiny", NO_TEXT, tokenizer="mine.json").tokenizer == "mine.json"
    assert recipes.member_config("gpt-tiny", NO_TEXT, tokenizer=recipes.CORPUS_TOKENIZER).tokenizer is None


@pytest.fixture
def family(corpus_dir: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text's folder of a family of three, each a matter of seconds."""
    text = tmp_path / "text"
    text.mkdir()
    files = []
    for use in ("train", "held out"):
        name = f"{use.replace(' ', '_')}.jsonl"
        shutil.copy(corpus_dir / name, text / name)
        digest = file_digest(text / name)
        files.append({"file": name, "sha256": digest, "use": use, "licence": "CC0", "origin": "invented"})
    (tmp_path / "bundled").mkdir()
    save_tokenizer(tokenizer, tmp_path / "bundled" / "unigram.json")
    shape = {"window": 32, "batch_size": 4, "steps": 6, "warmup_steps": 2, "learning_rate": 0.002, "compile": False}
    members = {
        "first": {"preset": "t5-tiny", "objective": "span_corruption"},
        "second": {"preset": "t5-tiny", "objective": "prefix_lm", "start_from": "first"},
        "third": {"preset": "gpt-tiny", "objective": "causal_lm"},
    }
    made_up = {
        "corpus": {"licence": "CC0 (invented)", "files": files},
        "tokenizer": str(tmp_path / "bundled"),
        "defaults": shape,
        "objectives": {"span_corruption": {}, "prefix_lm": {"seed": 1}, "causal_lm": {}},
        "members": members,
    }
    monkeypatch.setattr(recipes, "_recipes", lambda: made_up)
    return text


def make(names: list[str], text: Path, tmp_path: Path, **options: Any) -> dict[str, dict[str, Any]]:
    places = {"output_dir": tmp_path / "models", "cache_dir": tmp_path / "cache"}
    return recipes.make(names, text, threads=1, **{**places, **options})


def test_a_member_is_made_after_the_one_it_starts_from(family: Path, tmp_path: Path) -> None:
    cards = make(["second"], family, tmp_path)
    assert list(cards) == ["first", "second"]
    assert cards["second"]["started_from"]["name"] == "first"
    assert cards["second"]["command"] == "softprompt backbones make --name second --text FOLDER"
    assert cards["second"]["licence"] == "CC0 (invented)"
    assert [source["use"] for source in cards["second"]["corpus"]] == ["train", "held out"]
    assert cards["first"]["tokenizer_sha256"] == cards["second"]["tokenizer_sha256"]
    assert read_card(tmp_path / "models" / "second") == cards["second"]


def test_all_are_made_once_and_finished_ones_are_left(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = make([recipes.ALL], family, tmp_path)
    assert list(cards) == ["first", "second", "third"]
    assert "finished already" not in capsys.readouterr().err
    monkeypatch.setattr(recipes, "pretrain", lambda *args, **options: pytest.fail("made again"))
    assert make([recipes.ALL], family, tmp_path, compile=True) == cards
    assert f"second: finished already, in {tmp_path}/models/second." in capsys.readouterr().err
    shutil.rmtree(tmp_path / "models" / "first")
    assert list(make(["second"], family, tmp_path)) == ["second"], "a finished one needs none before it"


def test_an_interrupted_making_goes_on(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    run = recipes.pretrain

    def stopping(config: Any, **options: Any) -> dict[str, Any]:
        made.append(Path(config.output_dir).name)
        if made == ["first", "second"]:
            raise TrainingInterrupted("Stopped.")
        return run(config, **options)

    monkeypatch.setattr(recipes, "pretrain", stopping)
    with pytest.raises(TrainingInterrupted):
        make(["second", "third"], family, tmp_path)
    make(["second", "third"], family, tmp_path)
    assert made == ["first", "second", "second", "third"]


def test_an_unknown_name_is_refused_before_anything_is_made(family: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown member of the family 'thrid'\. Did you mean 'third'"):
        make(["first", "thrid"], family, tmp_path)
    assert not (tmp_path / "models").exists()


def test_text_that_is_not_the_familys_is_refused(family: Path, tmp_path: Path) -> None:
    expected, path = file_digest(family / "train.jsonl"), family / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '\n{"text": "another line"}', encoding="utf-8")
    found = file_digest(path)
    with pytest.raises(
        DataError,
        match=rf"train\.jsonl is not the family's text: expected SHA-256 {expected}, found {found}; copy the file",
    ):
        make(["third"], family, tmp_path)
    (family / "held_out.jsonl").unlink()
    with pytest.raises(DataError, match=r"lacks held_out\.jsonl of the family's text .* add the file, or use other"):
        make(["third"], family, tmp_path)


def test_other_text_is_named_in_the_card(family: Path, tmp_path: Path) -> None:
    assert recipes.find_text(family, any_text=True) == recipes.find_text(family)
    path = family / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '\n{"text": "another line"}', encoding="utf-8")
    same_names = recipes.find_text(family, any_text=True)
    assert (same_names.held_out, same_names.licence) == ((str(family / "held_out.jsonl"),), "unknown")
    (family / "held_out.jsonl").unlink()
    (family / "picture.png").touch()
    card = make(["third"], family, tmp_path, any_text=True)["third"]
    assert card["corpus"] == [{"file": "train.jsonl", "sha256": file_digest(path), "use": "train"}]
    assert card["licence"] == "unknown"
    assert card["command"] == "softprompt backbones make --name third --text FOLDER --any_text true"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no text: no \.txt, \.jsonl or \.csv file"):
        recipes.find_text(tmp_path / "empty", any_text=True)


def test_another_model_is_not_taken_for_the_member(family: Path, tmp_path: Path) -> None:
    make(["third"], family, tmp_path)
    folder = tmp_path / "models" / "third"
    card = read_card(folder)
    assert card is not None
    card["settings"]["steps"] = 5
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"third holds a finished model with steps = 5, not 6; give another output_"):
        make(["third"], family, tmp_path)
    card["settings"]["steps"] = 6
    card["corpus"][0]["sha256"] = "0"
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ConfigError, match="third holds a finished model of other text than this; give another output"):
        make(["third"], family, tmp_path)


def test_another_tokenizers_or_another_starts_model_is_not_taken_for_the_member(
    family: Path, tmp_path: Path, corpus_dir: Path
) -> None:
    make(["second"], family, tmp_path)
    other = train_tokenizer([(corpus_dir / "train.jsonl").read_text(encoding="utf-8")], size=690)
    save_tokenizer(other, tmp_path / "other.json")
    with pytest.raises(
        ConfigError, match=r"first holds a finished model of another tokenizer than .*other\.json; give"
    ):
        make(["first"], family, tmp_path, tokenizer=str(tmp_path / "other.json"))
    shutil.rmtree(tmp_path / "models" / "first")
    make(["first"], family, tmp_path)  # another one: its card states other seconds
    card = tmp_path / "models" / "first" / "card.json"
    card.write_text(card.read_text(encoding="utf-8").replace('"seconds": ', '"seconds": 9'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"second holds a finished model that did not start from the one in .*first;"):
        make(["second"], family, tmp_path)

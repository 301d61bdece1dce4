"""Backbones that come with softprompt, by name."""

from __future__ import annotations

import json

import pytest

from softprompt.backbones import catalogue
from softprompt.errors import ConfigError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    for name in ("b-small", "a-small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps({"parameters": len(name)}))
    (tmp_path / "unfinished").mkdir()
    monkeypatch.setattr(catalogue, "_FOLDER", tmp_path)
    return tmp_path


def test_names_are_those_of_finished_folders(shelf):
    assert catalogue.bundled_names() == ["a-small", "b-small"]


def test_a_name_leads_to_its_folder(shelf):
    assert catalogue.resolve("bundled:a-small") == str(shelf / "a-small")
    assert catalogue.resolve("google/t5-v1_1-base") == "google/t5-v1_1-base"


@pytest.mark.parametrize("name", ["bundled:a-small", "a-small"])
def test_a_card_is_read(shelf, name):
    assert catalogue.card(name) == {"parameters": 7}


@pytest.mark.parametrize("ask", [lambda: catalogue.resolve("bundled:a-smal"), lambda: catalogue.card("a-smal")])
def test_an_unknown_name_is_refused(shelf, ask):
    with pytest.raises(ConfigError, match=r"Unknown bundled backbone 'a-smal'\. Did you mean 'a-small'"):
        ask()

"""`softprompt pretrain`: its options are the settings of a pre-training, and a card's command is understood."""

from __future__ import annotations

import dataclasses
import inspect

import yaml

from softprompt.backbones.catalogue import resolve
from softprompt.cli.pretrain import pretrain
from softprompt.pretraining import PretrainConfig
from softprompt.pretraining.card import SETTINGS
from softprompt.pretraining.trainer import _COMMAND


def test_every_setting_is_an_option_with_the_same_default():
    options = inspect.signature(pretrain).parameters
    fields = {field.name: field for field in dataclasses.fields(PretrainConfig)}
    assert set(options) == set(fields)
    for name, field in fields.items():
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        assert options[name].default == (None if default == () else default)


def test_the_command_of_a_card_has_the_settings_of_its_folder(run):
    folder = resolve("bundled:t5-tiny")
    command = _COMMAND.replace("FOLDER", folder).replace("NEW", "models/again").split()
    code, shown, err = run(*command[1:], "--print_config")
    assert code == 0, err
    with open(f"{folder}/{SETTINGS}", encoding="utf-8") as file:
        assert yaml.safe_load(shown) == {**yaml.safe_load(file), "output_dir": "models/again"}

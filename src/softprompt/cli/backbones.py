"""`softprompt backbones`: the backbones that come with softprompt, their family, and how well they learned."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from softprompt.cli.tables import print_table

__all__ = ["check", "curves", "list_backbones", "make", "recipes", "show"]

_COLUMNS = ("backbone", "parameters", "objective", "tokens seen", "nats per token", "bits per byte")
# What a card holds beside the facts of a stage.
_LONG = ("history", "started_from")
_OF_A_STAGE = (
    *("name", "objective", "tokens_seen", "held_out_loss_nats_per_token", "held_out_bits_per_byte"),
    *("seconds", "machine", "command"),
)


def list_backbones() -> None:
    """List the bundled backbones: size, last objective, tokens seen in all, held-out loss."""
    from softprompt.backbones import catalogue

    names = catalogue.bundled_names()
    print_table(_COLUMNS, [_line(f"bundled:{name}", catalogue.card(name)) for name in names])


def show(*, name: str, json: bool = False) -> None:
    """Show what is known of a backbone: size, training, corpus, licence, held-out loss, time, machine, command.

    Args:
        name: A bundled backbone, with or without bundled:, or the folder of one that pretrain or make finished.
        json: Print the whole card as JSON, with all losses on the way and every stage in full.
    """
    import yaml

    card = _card(name)
    if json:
        print(json_format.dumps(card, indent=2, ensure_ascii=False))
        return
    from softprompt.pretraining.checking import stages

    facts = {key: value for key, value in card.items() if key not in _LONG}
    facts["stages"] = [{key: stage[key] for key in _OF_A_STAGE if key in stage} for stage in stages(card)]
    print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=100), end="")


def recipes() -> None:
    """List what backbones make can make, and the text that it is made from."""
    from softprompt.pretraining.recipes import member_names, member_recipe, text_files

    print_table(
        ("backbone", "starts from", "objective", "steps", "batch", "window", "rate", "million tokens"),
        [
            (
                name,
                recipe.get("start_from"),
                *(recipe["objective"], recipe["steps"], recipe["batch_size"], recipe["window"]),
                f"{recipe['learning_rate']:g}",
                round(recipe["steps"] * recipe["batch_size"] * recipe["window"] / 1e6),
            )
            for name, recipe in ((name, member_recipe(name)) for name in member_names())
        ],
    )
    print()
    print_table(
        ("file", "use", "licence", "SHA-256", "derived from"),
        [(entry.file, entry.use, entry.licence, entry.sha256, entry.origin) for entry in text_files()],
    )


def make(
    *,
    name: str | list[str],
    text: str,
    output_dir: str = "models",
    any_text: bool = False,
    tokenizer: str | None = None,
    compile: bool | None = None,
    threads: int | None = None,
    cache_dir: str = ".cache/pretraining",
) -> None:
    """Make backbones of the family from its text, or go on where an interrupted making stopped.

    Those that a backbone starts from are made first; finished ones are left as they are.

    Args:
        name: What recipes lists: one name, several as '[t5-mini, gpt-mini]', or all.
        text: Folder of the text that recipes lists; checksums are compared.
        output_dir: Each backbone gets a folder of its name in this one.
        any_text: Accept other text; the card then names its files, and no licence.
        tokenizer: A tokenizer file, or corpus to learn one from the text; the bundled backbones' own if not given.
        compile: Whether torch compiles the step; true if not given.
        threads: CPU threads.
        cache_dir: Where tokens are kept.
    """
    from softprompt.loop.processes import Processes
    from softprompt.pretraining.recipes import make as run

    cards = run(
        _names(name),
        text,
        any_text=any_text,
        output_dir=output_dir,
        cache_dir=cache_dir,
        tokenizer=tokenizer,
        compile=compile,
        threads=threads,
    )
    if Processes().first:
        print_table(_COLUMNS, [_line(str(Path(output_dir) / made), card) for made, card in cards.items()])


def check(
    *,
    backbone: str,
    held_out: str | list[str],
    windows: int | None = None,
    samples: int = 3,
    cache_dir: str = ".cache/pretraining",
    json: bool = False,
) -> None:
    """Measure a backbone on held-out text beside the best unigram model, and let it continue text and fill spans.

    It is measured under every objective that its architecture knows, also under those that it did not learn. The
    unigram model is the best there can be: it knows how often each token occurs among the very targets. An
    encoder-decoder is measured with others' inputs too: if it loses nothing by them, it does not read its input.

    Args:
        backbone: A bundled backbone, or the folder of one that pretrain or make finished.
        held_out: Text files that were not trained on: one, or several as '[a.jsonl, b.txt.gz]'.
        windows: Windows of text to measure at most; as in the backbone's card if not given.
        samples: Samples per objective.
        cache_dir: Where tokens are kept.
        json: Print figures and samples as JSON.
    """
    from dataclasses import asdict

    from softprompt.pretraining import check_backbone

    checks, written = check_backbone(
        _folder(backbone), _names(held_out), windows=windows, samples=samples, cache_dir=cache_dir
    )
    if json:
        found = {
            "backbone": backbone,
            "objectives": [asdict(one) for one in checks],
            "samples": [asdict(one) for one in written],
        }
        print(json_format.dumps(found, indent=2, ensure_ascii=False))
        return
    print_table(
        (
            "objective",
            "learned",
            "target tokens",
            "nats per token",
            "unigram",
            "others' inputs",
            "bits per byte",
            "unigram",
        ),
        [
            (
                *(one.objective, "yes" if one.trained else "no", one.tokens),
                *(one.nats_per_token, one.unigram_nats_per_token, one.exchanged_nats_per_token),
                *(one.bits_per_byte, one.unigram_bits_per_byte),
            )
            for one in checks
        ],
    )
    for sample in written:
        print(f"\n{sample.objective}")
        for part, text in (("input", sample.input), ("output", sample.output), ("held out", sample.target)):
            print(f"  {part + ':':<10}{' '.join(text.split())}")


def curves(
    *,
    backbones: str | list[str],
    output: str,
    measure: Literal["bits_per_byte", "nats_per_token"] = "bits_per_byte",
) -> None:
    """Draw held-out loss against tokens seen, one line per backbone.

    Args:
        backbones: Bundled backbones or finished folders: one, or several as '[bundled:t5-small, models/t5-small]'.
        output: The file: .svg or .png.
        measure: Bits per byte of text, or nats per token.
    """
    from softprompt.reporting import draw_curves

    draw_curves([_card(name) for name in _names(backbones)], output, measure=measure)
    print(output, file=sys.stderr)


def _names(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _line(name: str, card: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        *(name, card["parameters"], card["objective"], card["tokens_seen"] + card["tokens_seen_before"]),
        *(card["held_out_loss_nats_per_token"], card["held_out_bits_per_byte"]),
    )


def _folder(name: str) -> Path:
    """The folder of a backbone: a bundled one, with or without `bundled:`, or any other.

    Raises:
        ConfigError: If there is no bundled backbone and no folder of that name.
    """
    from softprompt.backbones import catalogue
    from softprompt.config import choose

    bundled = catalogue.bundled_names()
    folder = Path(catalogue.resolve(f"bundled:{name}" if name in bundled else name))
    if not folder.is_dir():
        raise choose("folder or bundled backbone", name, bundled)
    return folder


def _card(name: str) -> dict[str, Any]:
    from softprompt.pretraining.card import need_card

    return need_card(_folder(name))

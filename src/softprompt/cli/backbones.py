"""`softprompt backbones`: the backbones that come with softprompt."""

from __future__ import annotations

from softprompt.cli.tables import print_table

__all__ = ["list_backbones", "show"]


def list_backbones() -> None:
    """List the bundled backbones: size, last objective, tokens seen in all, held-out bits per byte."""
    from softprompt.backbones import catalogue

    cards = {name: catalogue.card(name) for name in catalogue.bundled_names()}
    rows = [
        (
            f"bundled:{name}",
            card["parameters"],
            card["objective"],
            card["tokens_seen"] + card["tokens_seen_before"],
            card["held_out_bits_per_byte"],
        )
        for name, card in cards.items()
    ]
    print_table(("backbone", "parameters", "objective", "tokens seen", "bits per byte"), rows)


def show(*, name: str) -> None:
    """Show everything that is known of a bundled backbone.

    Args:
        name: The backbone's name, with or without `bundled:`.
    """
    import yaml

    from softprompt.backbones import catalogue

    print(yaml.safe_dump(catalogue.card(name), sort_keys=False, allow_unicode=True), end="")

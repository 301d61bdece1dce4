"""`softprompt backbones`: the backbones that come with softprompt."""

from __future__ import annotations

from softprompt.cli.tables import print_table

__all__ = ["list_backbones", "show"]


def list_backbones() -> None:
    """List the bundled backbones: size, objective, tokens seen, held-out bits per byte."""
    from softprompt.backbones import catalogue

    cards = {name: catalogue.card(name) for name in catalogue.bundled_names()}
    columns = {
        "parameters": "parameters",
        "objective": "objective",
        "tokens seen": "tokens_seen",
        "bits per byte": "held_out_bits_per_byte",
    }
    rows = [(f"bundled:{name}", *(card[fact] for fact in columns.values())) for name, card in cards.items()]
    print_table(("backbone", *columns), rows)


def show(*, name: str) -> None:
    """Show everything that is known of a bundled backbone.

    Args:
        name: The backbone's name, with or without `bundled:`.
    """
    import yaml

    from softprompt.backbones import catalogue

    print(yaml.safe_dump(catalogue.card(name), sort_keys=False, allow_unicode=True), end="")

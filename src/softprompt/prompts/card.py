"""The card of a stored prompt: a short README for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["render", "render_ensemble"]


def render(name: str, metadata: Mapping[str, Any]) -> str:
    """Markdown that says what a prompt is, what it belongs to, how good it is and how to use it.

    Args:
        name: The prompt's name.
        metadata: What `prompt.json` holds.
    """
    method = metadata["method"]
    facts = {
        "method": f"{method['name']}, {method['length']} virtual tokens, placement `{method['placement']}`",
        "backbone": f"`{metadata['backbone']}`",
        "parameters": f"{metadata['parameters']:,}",
        "task": metadata["task"] or "none",
    }
    run = metadata["run"] or {}
    if "status" in run:
        reason = f": {run['reason']}" if run["reason"] else ""
        facts["training"] = f"{run['status']}, the prompt is of step {run['best_step']}{reason}"
    template = (metadata["format"] or {}).get("input")
    if template:
        facts["input template"] = f"`{template}`"
    lines = [f"# {name}", "", "A soft prompt for a frozen language model, made with softprompt.", ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    for split, scores in metadata["metrics"].items():
        lines += [f"Scores on {split}:", "", "| metric | score |", "|---|---|"]
        lines += [f"| {metric} | {score} |" for metric, score in scores.items()] + [""]
    if metadata["kind"] == "encoder-only":
        command = f"softprompt predict --backbone {metadata['backbone']} --prompt {name} --input IN --output OUT"
        lines += ["```console", command, "```", ""]
        form = metadata["format"] or {}
        if method.get("head") and (form.get("words") or form.get("context")):
            lines += ["It brings its own head over tokens; the checkpoint needs none.", ""]
        elif method.get("head"):
            classes = len(set((form.get("label_words") or {}).values())) or "N"
            lines += [
                f"It brings its own classification head: add `--classes {classes}` where the checkpoint has none.",
                "",
            ]
        return "\n".join(lines)
    lines += [
        "```python",
        "import softprompt as sp",
        "",
        f'backbone = sp.Backbone.from_pretrained("{metadata["backbone"]}")',
        f'model = sp.Prompted(backbone, {{"{name}": sp.SoftPrompt.load("{name}")}})',
        'print(model.generate(["an input"], prompts=' + f'"{name}"))',
        "```",
        "",
    ]
    return "\n".join(lines)


def render_ensemble(name: str, metadata: Mapping[str, Any]) -> str:
    """Markdown that says what an ensemble is made of and how to use it.

    Args:
        name: The ensemble's name.
        metadata: What `ensemble.json` holds.
    """
    how = {"vote": "the majority of their votes", "mean": "the mean of their probabilities"}[metadata["combine"]]
    facts = {
        "combined by": how,
        "backbone": f"`{metadata['backbone']}`",
        "parameters": f"{metadata['parameters']:,}",
        "task": metadata["task"] or "none",
    }
    lines = [
        f"# {name}",
        "",
        f"{len(metadata['members'])} soft prompts that answer together, made with softprompt.",
        "",
    ]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    lines += ["| member | method | virtual tokens | seed |", "|---|---|---|---|"]
    for place, member in enumerate(metadata["members"]):
        method, run = member["method"], member["run"] or {}
        lines.append(f"| {place} | {method['name']} | {method['length']} | {run.get('seed', '')} |")
    lines += [
        "",
        "```python",
        "import softprompt as sp",
        "",
        f'backbone = sp.Backbone.from_pretrained("{metadata["backbone"]}")',
        f'print(sp.Ensemble.load(backbone, "{name}").generate(["an input"]))',
        "```",
        "",
    ]
    return "\n".join(lines)

"""`softprompt report`: what studies found, as pages."""

from __future__ import annotations

__all__ = ["report_studies"]


def report_studies(
    *,
    results: str | list[str],
    grid: str | None = None,
    output: str | None = None,
    predictions: str | list[str] | None = None,
    evidence: str | None = None,
) -> None:
    """Write report.html, one file that needs no other, and report.md with its plots beside it.

    Args:
        results: Folder that softprompt study wrote to; needs no option. With --evidence, or without --output, several
            in brackets.
        grid: A YAML file, or the name of a grid that comes with softprompt, instead of study.yaml in the folder or the
            grid that its rows name.
        output: Folder for what is written; the results' own without one.
        predictions: Files that softprompt evaluate --output wrote, of which some rows are shown instead of those that
            the study kept.
        evidence: Instead of reports, write the register of claims with the verdicts of all studies to this file.
    """
    from pathlib import Path

    from softprompt.errors import ConfigError
    from softprompt.reporting import make_register, make_report, open_study, write_report, write_text

    folders = [results] if isinstance(results, str) else results
    outputs = [predictions] if isinstance(predictions, str) else predictions or []
    if len(folders) > 1 and (grid or ((output or outputs) and not evidence)):
        raise ConfigError("--grid, --output and --predictions are of one study; give one folder of results.")
    if evidence and (output or outputs):
        raise ConfigError("--evidence writes the register alone; leave --output and --predictions out.")
    studies = [open_study(folder, grid) for folder in folders]
    if evidence:
        print(write_text(Path(evidence), make_register(studies, target=evidence)))
        return
    for study in studies:
        page, markdown = write_report(make_report(study, predictions=outputs), output or study.folder)
        print(page)
        print(markdown)

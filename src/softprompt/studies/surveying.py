"""The first look at a backbone: what it is, and which cells are none for it, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import LengthError, MissingDependencyError, UnsupportedError
from softprompt.inference.encoding import encode
from softprompt.studies.grid import Grid
from softprompt.studies.rows import Order, Planned, count_parameters
from softprompt.studies.workplace import Workplace
from softprompt.training import WeightMethod
from softprompt.training.suitability import check_suits

__all__ = ["Survey", "Surveyed"]


@final
@dataclass(frozen=True)
class Surveyed:
    """What a survey found.

    Attributes:
        backbone_digest: Digest of the backbone.
        backbone_parameters: Its parameters.
        refusals: By key, why a cell is none for the backbone or its task.
    """

    backbone_digest: str
    backbone_parameters: int
    refusals: Mapping[str, str]


@final
@dataclass(frozen=True)
class Survey:
    """A look at a backbone and at cells that are to be run on it.

    Attributes:
        backbone: Its name.
        orders: The cells.
    """

    backbone: str
    orders: tuple[Order, ...] = ()

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.backbone}: the check of its runs"

    def run(self, workplace: Workplace) -> Surveyed:
        """Look.

        Raises:
            LengthError: If an input is too long by itself.
        """
        backbone = workplace.backbone(self.backbone)
        found = {order.key: _refusal(workplace.grid, backbone, workplace.planned(order)) for order in self.orders}
        refusals = {key: reason for key, reason in found.items() if reason is not None}
        return Surveyed(workplace.backbone_digest(self.backbone), count_parameters(backbone), refusals)


def _refusal(grid: Grid, backbone: Backbone, one: Planned) -> str | None:
    """Why a method is none for this backbone or task, or None if it is one.

    Whatever it would be scored on is tokenized: an input that is too long for it is met now, not after the training.

    Raises:
        LengthError: If an input is too long by itself.
    """
    if one.cell.is_ensemble:  # its members were trained and scored on the same
        return None
    ranks = one.task.labels is not None and one.cell.settings.get("by") != "generate"
    if one.designs_text and one.cell.calibrates and not ranks:
        return "calibration corrects the probabilities of labels."
    method = None if one.designs_text else one.run.method
    prompts = {}
    try:
        check_suits(backbone, method, one.task)
        if isinstance(method, WeightMethod):
            method.check(backbone.model)
        elif method is not None:
            prompts = {"": method.build(backbone, one.task, one.cell.seed)}
        model = Prompted(backbone, prompts)
    except (UnsupportedError, MissingDependencyError) as error:
        return str(error)
    jobs = [*one.jobs(grid, "" if prompts else None).values(), one.chosen_by("" if prompts else None)]
    try:
        for job in jobs:
            encode(model, job.queries(backbone, job.examples()))
    except LengthError as error:
        if jobs[0].text is None:
            raise
        return f"behind the words of prompt design an input is too long; take fewer shots or words. {error}"
    return None

"""What is to be done on a backbone, round by round: what a round learns decides what the next one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from softprompt.errors import ArtefactError
from softprompt.studies.cases import CASES, CaseFile
from softprompt.studies.cells import Cell
from softprompt.studies.grid import Grid
from softprompt.studies.needs import Learning, wanted_cells
from softprompt.studies.rows import Order, unmade_row
from softprompt.studies.sessions import Scoring, Session
from softprompt.studies.states import place_of
from softprompt.studies.surveying import Survey, Surveyed
from softprompt.studies.table import ResultsTable
from softprompt.studies.workplace import Unit, Workplace

__all__ = ["Rounds", "pack"]

Row = Mapping[str, Any]


@final
class Rounds:
    """The rounds of a backbone; which units a round has does not depend on who does them, or when.

    Args:
        workplace: Where tasks are read; its backbone is not asked for.
        backbone: A name in the grid.
        table: Where rows are entered.
        say: Told how far it is.
    """

    def __init__(self, workplace: Workplace, backbone: str, table: ResultsTable, say: Callable[[str], None]) -> None:
        self._workplace, self._backbone, self._table, self._say = workplace, backbone, table, say
        self._grid, self._folder = workplace.grid, workplace.folder
        self._cases = CaseFile(self._folder.cases)
        sources = [source for cell in self._grid.cells() for source in cell.needs]
        self._kept = {(source.task, source.method) for source in sources}
        self._lost: dict[str, Row] = {}
        self._remade: set[str] = set()
        self._surveyed: Surveyed | None = None

    def units(self) -> Iterator[list[Unit]]:
        """The units of each round; the next round is asked for once all of these were entered."""
        yield [Survey(self._backbone)]
        while True:
            orders = {order.key: order for order in self._orders()}
            remake = self._remake(orders.values())
            ready = {key: one for key, one in orders.items() if key in self._lost or self._has_sources(one)}
            left = {key: one for key, one in ready.items() if key not in self._table or key in remake}
            done = sum(key in self._table for key in orders)
            self._say(f"{self._backbone}: {done} of {len(orders)} runs are in {self._table.path}.")
            if not left:
                return
            yield [Survey(self._backbone, tuple(one for key, one in left.items() if key not in self._lost))]
            left = self._refuse(left)
            scored = [one for one in left.values() if one.cell.is_untrained]
            trained = {key: one for key, one in left.items() if not one.cell.is_untrained}
            begun = self._folder.begun({key for key in orders if key in self._table and key not in left})
            units: list[Unit] = [*map(Scoring, scored), *pack(self._grid, ready, trained, begun)]
            if units:
                yield units

    def enter(self, unit: Unit, result: Any) -> None:
        """Take what came of a unit: rows go into the table, and what only a resumption needs is removed."""
        if isinstance(result, Surveyed):
            self._surveyed = result
            digests = {task: self._workplace.task_digest(task) for task in self._grid.tasks}
            places = {place_of(self._grid, self._backbone, task): task for task in digests}
            self._folder.note_states({place: (result.backbone_digest, digests[one]) for place, one in places.items()})
            return
        for made in result:
            row = {name: value for name, value in made.items() if name != CASES}
            if CASES in made:
                self._cases.add(row["key"], made[CASES])
            if row["key"] not in self._table:
                self._table.append(row)
        if isinstance(unit, Session):
            self._folder.end(unit.keys)

    def _found(self) -> Surveyed:
        assert self._surveyed is not None, "a round begins with a survey"
        return self._surveyed

    def _rows(self) -> list[Row]:
        """The rows of this model and of these data."""
        digest_of = self._workplace.task_digest
        return [
            row
            for row in self._table
            if row["backbone_digest"] == self._found().backbone_digest
            and row["task"] in self._grid.tasks
            and row["task_digest"] == digest_of(row["task"])
        ]

    def _orders(self) -> list[Order]:
        """The cells that are to be run as far as is known, and whose prompts are known."""
        rows = self._rows()
        made = {row["cell"]: row for row in rows}
        found = []
        for cell, learning in wanted_cells(self._grid, self._backbone, rows):
            if learning is None:
                found.append(self._order(cell))
            elif (order := self._dependent(cell, learning, made)) is not None:
                found.append(order)
        return found

    def _order(self, cell: Cell, source_keys: tuple[str, ...] = ()) -> Order:
        return Order(
            cell=cell,
            backbone_digest=self._found().backbone_digest,
            task_digest=self._workplace.task_digest(cell.task),
            source_keys=source_keys,
            keeps_prompt=(cell.task, cell.method) in self._kept,
        )

    def _dependent(self, cell: Cell, learning: Learning, made: Mapping[str, Row]) -> Order | None:
        """The order of a cell that needs prompts; None if some are still to come."""
        known = [made[one.identity] for one in learning.chosen if one.identity in made]
        is_complete = bool(learning.chosen) and len(known) == len(learning.chosen)
        if not is_complete and not learning.is_over:
            return None
        order = self._order(cell, tuple(row["key"] for row in known) if is_complete else ())
        without = [row for row in known if row["status"] in ("failed", "unsupported")]
        if without or not is_complete:
            status = "unsupported" if any(row["status"] == "unsupported" for row in without) else "failed"
            needed = " and ".join(f"{one.method!r} on {one.task!r}" for one in cell.needs)
            reason = f"{needed}, whose prompts it needs, learned not all of them."
            planned = self._workplace.planned(order)
            parameters = self._found().backbone_parameters
            self._lost[order.key] = unmade_row(self._grid, parameters, planned, status=status, reason=reason)
        return order

    def _has_sources(self, order: Order) -> bool:
        return all(self._folder.prompt(key).is_dir() for key in order.source_keys)

    def _remake(self, orders: Iterable[Order]) -> set[str]:
        """Keys of runs whose rows are there, but not the prompts that are needed now.

        Raises:
            ArtefactError: If one was run again already, and its prompt is still not there.
        """
        several = [order for order in orders if order.key not in self._lost]
        found: set[str] = set()
        while True:
            needed = {
                key
                for order in several
                if order.key not in self._table or order.key in found
                for key in order.source_keys
                if not self._folder.prompt(key).is_dir()
            }
            if needed <= found:
                break
            found |= needed
        if again := found & self._remade:
            raise ArtefactError(
                f"{self._folder.prompt(min(again))} should hold what a run learned, but running it again did not make"
                " it; take its row out of the table."
            )
        self._remade |= {key for key in found if key in self._table}
        return found

    def _refuse(self, left: Mapping[str, Order]) -> dict[str, Order]:
        """Enter the rows of what is not run, and give the rest."""
        found = self._found()
        for key, order in left.items():
            if key in self._lost:
                self._table.append(self._lost[key])
            elif key in found.refusals:
                planned = self._workplace.planned(order)
                reason = found.refusals[key]
                self._table.append(
                    unmade_row(self._grid, found.backbone_parameters, planned, status="unsupported", reason=reason)
                )
        return {key: one for key, one in left.items() if key not in self._lost and key not in found.refusals}


def pack(
    grid: Grid, known: Mapping[str, Order], left: Mapping[str, Order], begun: Sequence[Sequence[str]]
) -> list[Session]:
    """Sessions: those that were begun as they were, then the rest in the grid's order.

    Args:
        grid: Says how full a session may be.
        known: By key, all cells that are to be run, those that have a row included.
        left: Those among them that are still to be trained.
        begun: Keys of the sessions that were begun; those of other cells are left alone.
    """
    packed = [[known[key] for key in keys] for keys in begun if all(key in known for key in keys)]
    resumed = {order.key for session in packed for order in session}
    rest = [order for key, order in left.items() if key not in resumed]
    together: dict[Any, list[Order]] = {}
    for order in rest:
        if not order.cell.tunes_weights:
            group = (order.cell.task, order.cell.method) if grid.methods_apart else None
            together.setdefault(group, []).append(order)
    most = grid.runs_per_session
    packed += [several[i : i + most] for several in together.values() for i in range(0, len(several), most)]
    packed += [[order] for order in rest if order.cell.tunes_weights]
    return [Session(tuple(orders), number, len(packed)) for number, orders in enumerate(packed, 1)]

"""How often each of several tasks is trained on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError
from softprompt.tasks import Mixture, Task


def task(name: str, input: str = "{x}", **settings) -> Task:
    return Task.from_rows({"test": [{"x": "a", "y": "1"}]}, input=input, target="{y}", name=name, **settings)


TASKS = [task("large"), task("middle"), task("small")]
ROWS = {"large": 900, "middle": 90, "small": 10}


def test_the_rates_of_the_paper():
    """Raffel et al. 2020, §3.5.2, written out: min(e, K) / sum, its T-th root, and 1 / N."""

    def shares(**settings):
        return list(Mixture(TASKS, **settings).shares(ROWS).values())

    assert shares() == pytest.approx([0.9, 0.09, 0.01])
    assert shares(limit=100) == pytest.approx([100 / 200, 90 / 200, 10 / 200])
    assert shares(mixing="equal") == pytest.approx([1 / 3] * 3)
    total = 30 + math.sqrt(90) + math.sqrt(10)
    assert shares(mixing="temperature", temperature=2) == pytest.approx(
        [30 / total, math.sqrt(90) / total, math.sqrt(10) / total]
    )
    limited = [math.sqrt(min(rows, 40) / 90) for rows in (900, 90, 10)]
    assert shares(mixing="temperature", temperature=2.0, limit=40) == pytest.approx(
        [one / sum(limited) for one in limited]
    )


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=3), st.integers(1, 10**6))
def test_temperature_leads_from_proportional_to_equal(counts, limit):
    rows = dict(zip(ROWS, counts, strict=True))

    def shares(**settings):
        return Mixture(TASKS, **settings).shares(rows)

    assert shares(mixing="temperature", temperature=1, limit=limit) == pytest.approx(shares(limit=limit))
    assert shares(mixing="temperature", temperature=1e9) == pytest.approx(shares(mixing="equal"), abs=1e-6)
    assert sum(shares(limit=limit).values()) == pytest.approx(1)


def test_a_mixture_is_called_by_its_tasks_and_has_their_labels():
    words = {"0": "bad", "1": "good"}
    both = Mixture([task("a", label_words=words), task("b"), task("c", label_words={"0": "no", "1": "good"})])
    assert (both.name, both.labels) == ("a-b-c", ("bad", "good", "no"))
    assert Mixture(TASKS).labels is None
    places = "{{soft:2}} {{x}} {{soft:{}}}"
    assert Mixture([task("a", places.format(3)), task("b", places.format(3))]).segments == (2, 3)
    differing = Mixture([task("a", places.format(3)), task("b", places.format(4))])
    with pytest.raises(ConfigError, match="The tasks of a-b divide a prompt differently among the places"):
        _ = differing.segments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": []}, r"A mixture needs tasks with names of their own; got \[\]"),
        ({"tasks": [TASKS[0]] * 2}, r"got \['large', 'large'\]"),
        ({"mixing": "equally"}, "Unknown mixing 'equally'. Did you mean 'equal'"),
        ({"mixing": "temperature"}, "a temperature is for 'temperature' alone, which needs one, such as 2"),
        ({"temperature": 2}, "mixing='proportional' and temperature=2: a temperature is for 'temperature' alone"),
        ({"mixing": "temperature", "temperature": 0.5}, "temperature=0.5: expected at least 1"),
        ({"mixing": "temperature", "temperature": math.nan}, "temperature=nan: expected at least 1"),
        ({"limit": 0}, "limit=0: expected at least 1 row"),
        ({"mixing": "equal", "limit": 5}, "limit=5: .* a mixing that asks how many rows a task has"),
    ],
)
def test_what_is_no_mixture(settings, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=message):
        Mixture(**{"tasks": TASKS, **settings})

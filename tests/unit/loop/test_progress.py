"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from softprompt.loop.progress import Progress


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_at_a_bounded_pace_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock, pace_s=10) as progress:
        bar = progress.add("run", total=100, done=20)
        for _ in range(80):
            clock.now += 0.5
            bar.advance(loss=1.23456789)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["21/100", "41/100", "61/100", "81/100", "100/100"]
    assert lines[1] == "run  41/100  loss 1.235  2 steps/s  0:00:30 left"


def test_an_unknown_total_has_no_end_to_wait_for() -> None:
    """A total of 0 once stood for "unknown": every batch printed a line, with "-1 day, 23:59:55 left"."""
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock, pace_s=10) as progress:
        bar = progress.add("predict", total=None, done=3)
        for _ in range(40):
            clock.now += 0.5
            bar.advance(2)
    assert stream.getvalue().splitlines() == ["predict  5    4 steps/s", "predict  45    4 steps/s"]


def test_a_terminal_shows_an_unknown_total() -> None:
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.add("predict", total=None).advance(7)
    assert "7/?" in stream.getvalue()


def test_several_bars_keep_their_own_figures() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock, pace_s=0) as progress:
        first, second = progress.add("a", total=2), progress.add("b", total=1)
        clock.now += 1
        first.advance(loss=2.0)
        second.advance(metric="new")
        first.advance(rate=0.5)
    assert stream.getvalue().splitlines() == [
        "a  1/2  loss 2  1 steps/s  0:00:01 left",
        "b  1/1  metric new  1 steps/s  0:00:00 left",
        "a  2/2  loss 2  rate 0.5  2 steps/s  0:00:00 left",
    ]


def test_a_bar_that_only_shows_figures_has_no_pace() -> None:
    stream = io.StringIO()
    with Progress(stream=stream, clock=Clock()) as progress:
        progress.add("a", total=3).advance(0, loss=1.0)
    assert stream.getvalue().strip() == "a  0/3  loss 1"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress.add("sentiment", total=4).advance(4, loss=0.25)
        progress.say("saved [step 4]")
    text = stream.getvalue()
    assert "sentiment" in text
    assert "4/4" in text
    assert "loss 0.25" in text
    assert "saved [step 4]" in text


def test_standard_output_is_left_to_results(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.add("a", total=1).advance()
        progress.say("done")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "done"
    assert len(captured.err.splitlines()) == 2

"""Moving rows about, against plain loops over lists."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.conditioning.padding import (
    insert_prompt,
    last_column_before_next,
    pad_rows,
    repad,
    token_columns,
)
from softprompt.errors import ShapeError

sides = st.sampled_from(["left", "right"])


@st.composite
def masks(draw, rows: int | None = None) -> torch.Tensor:
    """Any mask with a real token in every row; holes in the middle too."""
    count, width = rows or draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(st.booleans(), min_size=width, max_size=width).filter(any)
    return torch.tensor(draw(st.lists(row, min_size=count, max_size=count)))


def pad_lists(rows: list[list[float]], side: str, width: int, fill: float) -> list[list[float]]:
    return [[fill] * (width - len(row)) + row if side == "left" else row + [fill] * (width - len(row)) for row in rows]


@given(st.data(), sides)
def test_insert_prompt_is_a_list_insertion(data, side):
    mask = data.draw(masks())
    rows, seq = mask.shape
    width = data.draw(st.integers(0, 4))
    lengths = data.draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows))
    at = [data.draw(st.lists(st.integers(0, int(row.sum())), min_size=width, max_size=width)) for row in mask]
    inputs = torch.arange(1, rows * seq + 1, dtype=torch.float).view(rows, seq)
    prompt = -torch.arange(1, rows * width + 1, dtype=torch.float).view(rows, width)
    prompt_mask = torch.arange(width) < torch.tensor(lengths)[:, None]

    joined, joined_mask, columns = insert_prompt(
        prompt[:, :, None],
        prompt_mask,
        inputs[:, :, None],
        mask,
        at=torch.tensor(at, dtype=torch.long).view(rows, width),
        padding_side=side,
    )

    want = []
    for i in range(rows):
        tokens = inputs[i][mask[i]].tolist()
        before = [
            [one for one, place in zip(prompt[i, : lengths[i]].tolist(), at[i], strict=False) if place == j]
            for j in range(len(tokens) + 1)
        ]
        want.append([one for j, token in enumerate(tokens) for one in (*before[j], token)] + before[-1])
    widest = max(map(len, want))
    assert joined_mask.tolist() == pad_lists([[True] * len(row) for row in want], side, widest, False)
    assert joined[:, :, 0].where(joined_mask, 0).tolist() == pad_lists(want, side, widest, 0)
    for i in range(rows):
        for j in range(seq):
            column = int(columns[i, j])
            assert column == -1 if not mask[i, j] else joined[i, column, 0] == inputs[i, j]


@pytest.mark.parametrize("at", [-1, 3])
def test_a_prompt_goes_inside_its_row(at):
    mask = torch.tensor([[True, True, False]])
    with pytest.raises(ShapeError, match=rf"before token 0 to \[2\] of its row, but got \[\[{at}\]\]"):
        insert_prompt(
            torch.zeros(1, 1, 2),
            torch.ones(1, 1, dtype=torch.bool),
            torch.zeros(1, 3, 2),
            mask,
            at=torch.tensor([[at]]),
        )


@given(masks(), sides)
def test_repad_moves_padding_to_one_side(mask, side):
    ids = torch.arange(1, mask.numel() + 1).view(mask.shape)
    moved, moved_mask, columns = repad(ids, mask, side=side)
    want = [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
    assert moved_mask.tolist() == pad_lists([[True] * len(row) for row in want], side, mask.shape[1], False)
    assert moved.where(moved_mask, 0).tolist() == pad_lists(want, side, mask.shape[1], 0)
    assert sorted(map(sorted, moved.tolist())) == sorted(map(sorted, ids.tolist()))
    for i, j in mask.nonzero().tolist():
        assert moved[i, columns[i, j]] == ids[i, j]
    assert (columns[~mask] == -1).all()


@given(masks())
def test_token_columns_count_real_tokens(mask):
    got = token_columns(mask)
    for i, row in enumerate(mask.tolist()):
        seen = 0
        for j, real in enumerate(row):
            seen += real
            assert got[i, j] == max(seen - 1, 0)


@given(st.data(), sides)
def test_a_tokens_successor_is_predicted_just_before_it(data, side):
    mask = data.draw(masks())
    rows, seq = mask.shape
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    at = [[data.draw(st.integers(0, int(row.sum())))] * 3 for row in mask]
    prompt_mask = torch.arange(3) < torch.tensor(lengths)[:, None]
    _, joined_mask, columns = insert_prompt(
        torch.zeros(rows, 3, 1), prompt_mask, torch.zeros(rows, seq, 1), mask, at=torch.tensor(at), padding_side=side
    )
    got = last_column_before_next(columns, joined_mask)
    for i in range(rows):
        real = mask[i].nonzero().flatten().tolist()
        end = max(c for c in range(joined_mask.shape[1]) if joined_mask[i, c])
        for here, following in zip(real, [*real[1:], None], strict=True):
            want = end if following is None else int(columns[i, following]) - 1
            assert got[i, here] == want
        assert all(got[i, j] == 0 for j in range(seq) if not mask[i, j])


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=4), sides)
def test_pad_rows_pads_lists(rows, side):
    ids, mask = pad_rows(rows, fill=0, side=side)
    widest = max(map(len, rows))
    assert ids.tolist() == pad_lists(rows, side, widest, 0)
    assert mask.sum(dim=1).tolist() == [len(row) for row in rows]
    assert [row[real].tolist() for row, real in zip(ids, mask, strict=True)] == rows


def test_pad_rows_of_nothing():
    ids, mask = pad_rows([], fill=0)
    assert ids.shape == mask.shape == (0, 0)

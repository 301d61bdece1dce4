"""Numbers that are none: what is said of them."""

from __future__ import annotations

import pytest
from tests.models import tiny_backbone

from softprompt.errors import NonFiniteError
from softprompt.inference.finite import check_finite


def test_the_first_rows_prompt_is_named_with_what_to_do():
    backbone = tiny_backbone("decoder-only")
    check_finite(backbone, ["a", None], [True, True])
    said = f"that {backbone.name} gives with the prompt 'b' are NaN or infinite; .*lower rate, or load .* in float32"
    with pytest.raises(NonFiniteError, match=said):
        check_finite(backbone, ["a", "b", None], [True, False, False])
    with pytest.raises(NonFiniteError, match=r"gives without a prompt are NaN or infinite; .*Load it in float32\.$"):
        check_finite(backbone, ["a", None], [True, False])

"""conftest.py has every annotation of softprompt checked while tests run."""

from __future__ import annotations

import pytest
from jaxtyping import TypeCheckError

from softprompt.config import choose


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeCheckError, match="known"):
        choose("method", "tuning", 3)

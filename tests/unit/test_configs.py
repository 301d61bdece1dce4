"""The settings that ship beside the code are understood by what they are for."""

from __future__ import annotations

from pathlib import Path

from accelerate.commands.config.config_args import load_config_from_file

ROOT = Path(__file__).parents[2]


def test_accelerate_starts_processes_that_shard_nothing_by_themselves():
    """softprompt shards the backbone, and says the precision: twice would be wrong."""
    config = load_config_from_file(str(ROOT / "configs" / "accelerate.yaml"))
    assert config.distributed_type == "MULTI_GPU"
    assert config.num_processes == -1, "accelerate then asks for it; a number would be another machine's"
    assert (config.mixed_precision, config.fsdp_config) == ("no", {})

"""Benchmarks: softprompt beside its peers and beside the machine's own speed, alternating in one run."""

import logging

for _name in ("torchao", "torch.utils._pytree"):  # what they say of other machines' kernels
    logging.getLogger(_name).setLevel(logging.ERROR)

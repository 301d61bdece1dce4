"""Benchmarks: softprompt beside its peers and beside the machine's own speed, alternating in one run."""

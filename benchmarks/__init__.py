"""Benchmarks: softprompt and its peers on the same weights and rows, alternating in one run."""

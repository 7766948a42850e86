"""Benchmarks beside the peers, in one run, as ratios: absolute numbers belong to one machine on one day."""

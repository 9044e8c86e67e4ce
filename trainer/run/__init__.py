"""A training run.

loop   train()     checkpoint   the run folder, and when a run may go on     log   metrics.jsonl
"""

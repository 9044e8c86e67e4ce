"""What a clip shows in time; arithmetic on slots, no pixels.

plan      TemporalPlan: which stored frame stands in which slot
rate      windows of a clip at the model's frame rate
fluxflow  FluxFlow: shuffles in time        stages   TPDiff: fewer frames where it is noisy
recipe    what the stream asks of training, and the answers of a configured run
"""

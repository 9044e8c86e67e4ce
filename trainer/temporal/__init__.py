"""What a clip shows in time; arithmetic on slots, no pixels.

plan      TemporalPlan: which stored frame stands in which slot
fluxflow  FluxFlow: shuffles in time        stages   TPDiff: fewer frames where it is noisy
recipe    what is random about a sample
"""

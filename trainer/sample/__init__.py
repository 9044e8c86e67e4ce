"""Sampling: from noise to clips, what is given of them kept.

schedule   what happens in which order, as rows     spacing    the levels that steps go through
loop       Sampler, which follows the rows          renoise    from a stage to the next finer one
guidance   conditions, and their absence            request    clips of a run's model, long ones too
"""

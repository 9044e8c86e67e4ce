"""Figures of clips, made or true: pure functions on frames in [0, 1], one value a clip.

differences  flicker and smoothness, and how much changes at all
motion       how far things move, and how well frames agree along that; by an estimator of its own
truth        motion against the true clip's            perceptual   LPIPS: consistency, drift
frechet      FVD, and what the truth itself has        features     the network that it needs
measure      all of them
"""

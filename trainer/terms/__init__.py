"""Losses beside the reconstruction.

flowloss  motion of the clean estimate against stored flow
"""

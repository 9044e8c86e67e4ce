"""Losses beside the reconstruction: each a `Term`, from a `Step` to a loss and what to log of it.

flowloss    motion of the clean estimate against stored flow; weights, layers: its parts
warping     the clean estimate against itself, carried along stored flow
smoothness  differences from slot to slot
term        the protocol                     pairs   which pairs of slots pass the gate
denoised    a batch, restored by a network: the reconstruction, and the Step of it
"""

"""From a dataset to batches, read and decoded ahead.

engine    the order's positions to batches, on threads
fill      one sample into its place in a batch
batch     what one training step works on
"""

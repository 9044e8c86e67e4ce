"""From a dataset to batches, read and decoded ahead.

engine    Stream: the order's positions to batches, on threads
helper    the stream in a process beside the training
source    a dataset, and what is taken of it         filter     which of its clips, by expression
places    the order: buckets, sources, positions     samples    the clip at a position of a source
assemble  a batch, before its clips are read
fill      one sample into its place in a batch       batch      what one training step works on
buffers   memory that is used again                  device     to where it trains, RGB made there
timing    where the time goes
"""

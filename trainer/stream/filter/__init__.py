"""Which clips of a dataset a stream takes.

where   a filter over the columns of the index      kept    what it leaves, for the next start
pick    the samples that the rest gives in each bucket, at the model's frame rate
"""

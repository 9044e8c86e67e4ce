"""From the clip table to shards.

job           the build job, on Dask
shard         one shard: decode its clips, get their flow, write and commit its files
layer_writer  one shard of one flow layer          add_layer    a layer for a finished dataset
costs         what building cost
"""

"""From the clip table to shards.

make_dataset  a dataset, or more of one            add_layer     one more layer for it
job           shards of any kind, on Dask          task          one shard to write
shard         its clips and all layers             layer_writer  one layer of it
pieces        a shard on all workers               commits       what is written of a shard
costs         what building cost                   closing       rejects, and the last manifest
dry_run       what a build would make and cost, from a sample
"""

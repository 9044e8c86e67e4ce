"""From videos to the clip table, before any clip is decoded.

config       what decides the bytes of a dataset
clips        shots to clips by timestamps          scan         one video to its clips
scan_all     all videos, on the cluster            scans        results that are kept
clip_table   scans and rejects as Arrow tables
clip_plan    clips to shards                       plan_files   the plan on disk
plan_dataset the plan of a dataset that may hold something already
scanned_inputs, table_inputs   what is planned: videos that were scanned, or a user's table of clips
"""

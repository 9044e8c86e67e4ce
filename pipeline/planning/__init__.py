"""From videos to the clip table, before any clip is decoded.

config       what decides the bytes of a dataset
shots        shot boundaries                       clips        shots to clips by timestamps
scan         one video to its clips                clip_plan    all videos to the clip table
clip_table   clips and rejects as Arrow tables
"""

"""The build job: from video files to a dataset of clips with flow.

inputs      files, folders, globs and manifests to a list of videos
probe       facts of one video                decode    its frames, exactly; picture: as RGB
shots       shot boundaries                   clips     shots to clips by timestamps
scan        one video to its clips            plan      all videos to the clip table
build       one shard of the clip table to its files
job         the whole build, on Dask (cluster)
config      what decides the bytes of a dataset
records     the metadata that travels         tables    and its Arrow form
terminal    progress and refusals for a person
demo        videos whose motion is known      accuracy  stored flow against the truth
view        one clip with its flow; inspect, report, exhibits and charts show it
"""

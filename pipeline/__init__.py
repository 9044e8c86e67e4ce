"""The build job: from video files to a dataset of clips with flow.

source      what the user names, to frames         planning    videos to the clip table
building    the clip table to shards               cluster     where tasks run (Dask)
records     the metadata that travels
"""

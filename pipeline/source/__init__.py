"""From what the user names to pictures of frames.

inputs       files, folders, globs and manifests to a list of videos
probe        facts of one video
content      whether a file still holds the bytes that were scanned
decoder      a video's frames, one after another, going on after damage
timestamps   their times, strictly in order        rgb   a frame as an RGB picture
clip_frames  the frames of planned clips, bit-equal to those of a decode from the start
"""

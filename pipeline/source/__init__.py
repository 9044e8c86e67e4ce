"""From what the user names to pictures of frames.

inputs       files, folders, globs and manifests to a list of videos
given_clips  a table of clips, streamed and checked
probe        facts of one video
content      its bytes: read, hashed, compared; and the events that are no verdicts
decoder      a video's frames, one after another, going on after damage
timestamps   their times, strictly in order        rgb   a frame as an RGB picture
clip_frames  the frames of planned clips, bit-equal to those of a decode from the start
"""

"""Videos to try everything on, whose motion is known exactly.

scenes   synthetic scenes with their flow     videos   real files of them     truth   about clips
"""

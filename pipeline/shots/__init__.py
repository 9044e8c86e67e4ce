"""Where one shot of a video ends and the next begins.

detect     shots by any detector       changes    cuts, dissolves and fades in small pictures
transnet   a learned detector, an extra
"""

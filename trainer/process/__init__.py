"""The diffusion process, on tensors: how clips are noised, and what the network is to predict.

process    what a process is; edm, flow_matching, ddim: the three; build: the configured one
laws       of noise levels, and their parts      pyramid    the path of a pyramid stage
noise      of a sample                           objective  the loss of noisy clips
solver     steps to lower levels
"""

"""The diffusion process, on tensors: how clips are noised, and what the network is to predict.

edm        preconditioning, weight, noise levels     pyramid   the path of a pyramid stage
objective  the loss of noisy clips
"""

"""The diffusion process: how clips are noised, and what the network is to predict.

edm       preconditioning, weight, noise levels     denoise   the objective of a batch
"""

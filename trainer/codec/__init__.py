"""Frames to what the network sees, and back, differentiably.

codec     Codec, and FrameRule: which frames share a latent, which clip lengths there are
pixels    the frames themselves           choose    the codec of a configuration
vae       a diffusers autoencoder         families  what is known of its class
suits     whether a run's settings suit its codec
"""

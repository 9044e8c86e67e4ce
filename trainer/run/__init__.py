"""A training run.

loop    train()                          state        weights, their average, the optimizer
ranks   the processes that share it      checkpoint   the run folder, and when a run may go on
log     metrics.jsonl; sinks: TensorBoard, Weights & Biases
ingredients  what is streamed, the losses
validation   the loss of clips that are never trained on; evaluate: of a finished run
restore      a run as others use it      failures     why a run ended, in a sentence
"""

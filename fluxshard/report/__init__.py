"""What a dataset holds and how training on it went, as pictures.

page          one HTML page                        charts     the curves of a run
gallery       one clip as it is stored             pictures   and as pictures for the page
clip_figure   a clip and its flow as one figure    accuracy   stored flow against the truth
summary       the figures of `fluxshard info`
"""

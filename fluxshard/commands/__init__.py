"""The subcommands of `fluxshard`, one file each; what they need is imported when they run.

build flow merge    make datasets          verify info draw    look at one (draw is `inspect`)
cache               computed flow          train  demo         learn from one, show everything
"""

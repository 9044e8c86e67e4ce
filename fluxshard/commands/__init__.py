"""The subcommands of `fluxshard`, one file each; what they need is imported when they run.

scan                finds clips            verify info draw    look at one (draw is `inspect`)
build flow merge    make datasets          rejects             what it lacks
cache               computed flow          train  demo         learn from one, show everything
"""

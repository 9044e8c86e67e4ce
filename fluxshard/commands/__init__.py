"""The subcommands of `fluxshard`, one file each; what they need is imported when they run.

scan                finds clips            views/              look at one: info, rejects, inspect
build flow merge    make datasets          verify              every byte of one
cache               computed flow          stream train demo   read one, learn from it, show all
"""

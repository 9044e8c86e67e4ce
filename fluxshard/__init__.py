"""The face of the project: the command line, the demo, the report. Imported by nothing of ours.

main        the command `fluxshard`               arguments   how values are written
commands    one short file per subcommand         terminal    what a person sees while it runs
demo        made-up videos with known motion      report      a dataset and a run, as pictures
"""

"""Subcommands that show what a dataset holds and lacks, and change nothing."""

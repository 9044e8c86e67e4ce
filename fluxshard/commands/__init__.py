"""The subcommands of `fluxshard`."""

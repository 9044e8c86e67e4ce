"""An mp4's tables, read from its bytes: where each coded picture lies, and which frame it shows."""

from shards.mp4.track import Track, read_track

__all__ = ["Track", "read_track"]

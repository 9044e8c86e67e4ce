"""What is done with a run that was trained: its clips, and how good it is."""

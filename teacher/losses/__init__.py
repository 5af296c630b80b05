"""What the teacher is trained to: one file a loss, each a legend and its equation."""

"""Students of the teacher: finder, encoder, decoder; their losses and training."""

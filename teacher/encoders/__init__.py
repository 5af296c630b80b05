"""Image, signal and text encoders behind three small protocols."""

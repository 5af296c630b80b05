"""INT8 ranges and confidence."""

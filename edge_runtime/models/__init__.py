"""The shipped bundle: bundle.json and the nets that it names."""

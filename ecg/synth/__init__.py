"""Synthetic ECGs with exact truth: a heart (signals), a printer (pages) and a camera (photos)."""

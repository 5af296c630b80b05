"""From a camera or a file to a reading. Imports ``ecg`` only, never torch, transformers or timm."""

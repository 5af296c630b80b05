"""The shared domain of ecgscan: leads, paper, signals, layouts, records, metrics, the bundle format.

Imports NumPy, and OpenCV where pixels are touched; never torch, transformers or timm.
"""

__version__ = "0.1.0"

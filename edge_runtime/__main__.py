"""``python -m edge_runtime`` is ``ecgscan-edge``."""

from edge_runtime.cli import app

if __name__ == "__main__":
    app(prog_name="ecgscan-edge")

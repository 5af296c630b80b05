"""The local page of ``ecgscan-edge serve``: take or drop a photo, see, measure, correct and download the reading.

The standard library's HTTP server, static files beside this module, no external asset.  Everything stays in this
process's memory and goes by itself: ``sessions``.  Who may ask is decided in ``guard``, how much in ``limits``.
"""

"""Faults that end a command with one clear line: what, got, what to do."""

from __future__ import annotations


class EcgscanError(Exception):
    """Base of every fault that a command reports in one line and a non-zero exit."""


class InputError(EcgscanError):
    """A file or a value from outside can't be used (not an image, truncated, too large, ...)."""


class BundleError(EcgscanError):
    """A model bundle is missing, incomplete, altered or of another format."""


class RecordError(EcgscanError):
    """A signal record or a record index can't be read."""

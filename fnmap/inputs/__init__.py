"""What can be mapped besides Python functions: compiled programs, and files of a store as their arguments."""

from fnmap.inputs.stored import Stored

__all__ = ["Stored"]

"""A file that its tests never import."""

ONE = 1

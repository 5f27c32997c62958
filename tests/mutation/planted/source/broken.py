"""A file whose tests fail as it is."""

ONE = 2

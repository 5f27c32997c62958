"""Small changes to the source, one at a time, and whether the tests notice."""

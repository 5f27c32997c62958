"""What the benchmarks share: taking turns, rows of results, tables and charts."""

"""Benchmarks of the environments and, suite by suite, of what is built on them: `python -m benchmarks --help`."""

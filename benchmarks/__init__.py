"""What landing costs: measured beside peers, beside hand-written loops and beside the stages that nothing can avoid.

`python -m benchmarks` (`make bench`, `make bench-full`) measures and prints; with `--publish` it also writes what it
printed into docs/performance.md. Nothing of the library knows these modules.
"""

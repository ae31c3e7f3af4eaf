"""What landing costs, compared with peers, with hand-written loops and with the stages that nothing can avoid.

`python -m benchmarks` (`make bench`, `make bench-full`) measures and prints; with `--publish` it also writes what it
printed into docs/performance.md. Nothing of the library knows these modules.
"""

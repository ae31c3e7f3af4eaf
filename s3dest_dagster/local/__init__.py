"""What people try the library with on their own machine: an S3 server, a source with made-up records, a new project.

Nothing that lands needs it. Must not know: Dagster, the command line.
"""

"""The parts of the local AWS Lambda service: `fnmap.testing.aws_lambda` has what is meant for use.

From the top: `api` speaks HTTP, `functions` and `code` keep what was deployed, `events` is the queue of asynchronous
invocations, `fleet` counts environments and says 429, `process` and `light` are the two kinds of environment,
`runtime_api` is what a process talks to, `launcher` its first lines, `settings` every limit.
"""

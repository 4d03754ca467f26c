"""The environment of a job as files: versions are resolved from tables, then written for the tool that starts it.

``environment.resolve`` decides the versions, ``targets.render`` writes the files; both are pure. ``lock.lock`` is the
one step that needs a network, and only when it is asked for.
"""

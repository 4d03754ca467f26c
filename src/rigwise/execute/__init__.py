"""Where work runs: the stages of an application in threads and processes, measured."""

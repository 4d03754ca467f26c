"""What profilers recorded of a run: PyTorch and Chrome traces, Nsight Systems exports, ``perf stat``."""

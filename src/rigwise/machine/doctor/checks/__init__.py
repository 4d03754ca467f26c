"""The tests that rules name, ``gpu.wheel_architectures`` say: pure functions of facts."""

"""What a machine does now: samples of load, memory, power and clocks, and the arithmetic over them."""

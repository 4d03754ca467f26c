"""Write the first calibration file: constants of the literature and of public tables.

Every value carries where it comes from. Later files are fitted (``rigwise calibrate``);
this one is the prior they start from.
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/rigwise/estimate/calibration/literature-2026-11.toml"

NEUSIGHT = "least squares on NeuSight fp32 operator times of P4, P100, V100, T4, A100-40 (MIT), torch 2.1"
AICONF = "median over bf16 GEMM tables of aiconfigurator (Apache-2.0): A100 SXM, H100 SXM, L40S"
TIMM = "timm benchmark tables (Apache-2.0), RTX 3090 and 4090, torch 2.4"
PRIOR = "prior set by hand, not fitted"

CONTENT = f'''# Written by tools/write_first_calibration.py. Do not edit by hand.
# Efficiencies are fractions of a physical limit; [sources] says where each group comes from.

schema = 1
name = "literature-2026-11"
torch = "2.4"
devices = ["p4", "p100-pcie-16gb", "v100-pcie-32gb", "t4", "a100-pcie-40gb", "a100-sxm4-80gb", "h100-sxm5-80gb", "l40s", "rtx-3090", "rtx-4090"]
architectures = ["Pascal", "Volta", "Turing", "Ampere", "Ada Lovelace", "Hopper"]

[gemm]
tile = 128                      # rows and columns of one thread block
splits = [1, 2, 4, 8]           # ways to cut the inner dimension
wave_frac = 0.58                # share of a partly filled wave that is paid
norm_exponent = 2.53            # how compute and memory time overlap
vector_frac = 0.853             # of the vector peak, fp32
matrix_frac = 0.80              # of the matrix peak, dense

[gemm.matrix_frac_of_architecture]
Volta = 0.80
Turing = 0.80
Ampere = 0.78
"Ada Lovelace" = 0.90
Hopper = 0.80
Blackwell = 0.72
"Blackwell Ultra" = 0.72

[gemm.matrix_frac_of_format]    # of the above: scaling and packing around 8-bit products
fp8 = 0.65

[gemm.matrix_frac_of_class]
geforce = 0.95                  # rate halved for 32-bit accumulation: easily fed

[conv]
nhwc_frac = 0.95                # of what a gemm of the same shape reaches
nchw_frac = 0.95
nchw_extra_passes = 1.0         # input and output rewritten around matrix-unit kernels
depthwise_frac = 0.45           # of the memory rate
winograd_gain = 1.5             # 3x3 stride 1 on vector units: fewer multiplies than counted

[cpu]                           # in the place of the fractions above
gemm_frac = 0.45
conv_frac = 0.24
memory_frac = 0.70

[attention]
flash_frac = 0.60               # of the matrix peak
vector_frac = 0.45              # of the vector peak
decode_frac = 0.80              # of the memory rate

[memory]
cache_gain = 1.10               # operands that fit the last-level cache
cache_fill_frac = 0.6           # share of it that still counts as fitting
[memory.frac_of_kind]
HBM = 0.90
GDDR6X = 0.92
GDDR7 = 0.92
GDDR = 0.82
LPDDR = 0.80
DDR = 0.75
SRAM = 0.50
[memory.passes_of_kind]         # arrays moved for each array counted
norm = 1.05
softmax = 1.15
norm_backward = 1.15
softmax_backward = 1.3
elementwise = 1.0
reduce = 1.1
pool = 1.1
embedding = 1.3
index = 1.5
sort = 4.0
scan = 2.0

[launch]
kernel_s = 2.0e-6               # shortest kernel with its gap, on an accelerator
cpu_kernel_s = 1.0e-6           # parallel region on a CPU
host_op_s = 6.0e-6              # eager dispatch of one forward operator
host_backward_op_s = 7.0e-6
host_compiled_op_s = 3.0e-6
host_graph_op_s = 0.3e-6        # runtimes that replay recorded graphs
host_tensor_s = 0.4e-6          # a multi-tensor optimizer kernel, for each tensor
step_s = 100e-6                 # zero_grad, loss bookkeeping, iterator

[power]
usable_frac = 0.85              # of the board limit that reaches the chip
idle_w = 25.0
idle_frac_max = 0.25
vector_j_per_flop = 8.9e-12     # at 12 nm
matrix_j_per_flop = 1.3e-12     # at 12 nm, 16-bit inputs
node_exponent = 1.0
least_clock_frac = 0.15
static_frac = 0.20              # of the board limit, drawn whenever the device is busy
[power.memory_j_per_byte]
HBM = 35e-12
GDDR6X = 60e-12
GDDR7 = 50e-12
GDDR = 60e-12
LPDDR = 40e-12
DDR = 60e-12
SRAM = 5e-12
[power.node_nm_of_architecture]
Kepler = 28
"Kepler 2.0" = 28
Maxwell = 28
"Maxwell 2.0" = 28
Pascal = 16
Volta = 12
Turing = 12
Ampere = 7
"Ada Lovelace" = 5
Hopper = 5
Blackwell = 5
"Blackwell 2.0" = 5
"Blackwell Ultra" = 5

[collective]
ring_latency_s = 3.0e-6         # one hop
tree_latency_s = 4.5e-6
inter_node_latency_s = 14e-6
nvlink_frac = 0.78              # of the link sum, each way
xgmi_frac = 0.70
pcie_frac = 0.35                # of one x16 link: shared root complexes
network_frac = 0.80
bucket_bytes = 26214400.0       # gradient bucket of data-parallel training
overlap_slowdown = 1.08         # compute while communicating
usual_inter_node_bytes_per_s = 12.5e9

[memory_terms]
usable_frac = 0.965             # of the marketed memory, where no probe told
context_bytes = 5.0e8           # driver, runtime and library context
collective_bytes = 3.6e8        # communicator buffers
allocator_frac = 0.04           # rounding and fragmentation
workspace_bytes = 6.4e7

[interval]                      # standard deviation of ln(time), by provenance
measured-here = 0.05
same-device = 0.14
same-architecture = 0.20
other-architecture = 0.28
spec-only = 0.36
assumed_fact = 0.10             # added in quadrature where a figure is assumed
memory = 0.06                   # of ln(memory)

[sources]
gemm = "{NEUSIGHT}; matrix_frac: {AICONF}; fp8 set on H100 SXM, checked on L40S"
conv = "{PRIOR}; checked against {TIMM}"
cpu = "{PRIOR}; checked against timm on a Core i9-10940X (Apache-2.0)"
attention = "{AICONF}"
memory = "{NEUSIGHT}"
launch = "{PRIOR}; order of magnitude from dispatch of torch 2.x"
power = "{NEUSIGHT}; matrix energy and process nodes: {PRIOR}"
collective = "NCCL tables of aiconfigurator, intra node; inter node: constants of torch inductor's model (BSD-3)"
memory_terms = "{PRIOR}"
interval = "leave-one-device-out errors of the prototype, 6 to 19 %, and kernel spread of 10 %"
'''

if __name__ == "__main__":
    TARGET.write_text(CONTENT, encoding="utf-8")
    print(f"wrote {TARGET}")

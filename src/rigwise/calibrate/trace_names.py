"""Names of operators and kernels, as profilers and captured graphs spell them, brought to one spelling."""

from __future__ import annotations

import re
from functools import lru_cache

from rigwise.graph.op import Kind

#: Spellings of one thing by PyTorch's back ends, as they stand in its native_functions.yaml: pattern -> one name.
_SAME = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(addmm|mm|linear|mkldnn_linear|addmv|mv|_addmm_activation|_scaled_mm)", "mm"),
        (r"(bmm|baddbmm)", "bmm"),
        (r"(conv_[dw]grad|convolution_backward.*|(cudnn|miopen|mkldnn)_convolution_backward.*)",
         "convolution_backward"),
        (r"(conv[123]d|_?(cudnn|mkldnn|miopen)_convolution.*|_?convolution(_overrideable)?|_conv_depthwise2d)",
         "convolution"),
        (r"(_?flash_attention|_scaled_dot_product\w*_attention(_for_cpu|_for_mps)?|scaled_dot_product_attention)",
         "attention"),
        (r"(_?flash_attn\w*forward\w*|_(efficient|flash|cudnn)_attention_forward)", "attention"),
        (r"(_scaled_dot_product\w*_backward|_(efficient|flash|cudnn)_attention_backward|_?flash_attn\w*backward\w*)",
         "attention_backward"),
        (r"((cudnn|miopen)_batch_norm|_?native_batch_norm(_legit\w*)?|_batch_norm_with_update\w*|batch_norm)",
         "native_batch_norm"),
        (r"((cudnn|miopen|_?native)_batch_norm_backward|batch_norm_backward)", "native_batch_norm_backward"),
        (r"(layer_norm|native_layer_norm)", "native_layer_norm"),
        (r"(group_norm|native_group_norm)", "native_group_norm"),
        (r"(dropout|native_dropout|_fused_dropout)", "native_dropout"),
        (r"(max_pool2d_with_indices|mkldnn_max_pool2d)", "max_pool2d_with_indices"),
        (r"_?(lstm|gru|rnn_tanh|rnn_relu|cudnn_rnn|recurrent)", "recurrent"),
        (r"(_cudnn_rnn_backward|miopen_rnn_backward|recurrent_[dw]grad)", "recurrent_backward"),
        (r"nll_loss(2d)?_forward", "nll_loss_forward"),
    )
)  # fmt: skip

#: What the names of kernels of cuDNN, cuBLAS, CUTLASS, PyTorch, Triton and MIOpen tell, the first that is found.
_KERNELS = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"multi_tensor_apply|adam|fused_sgd", Kind.OPTIMIZER),
        (r"flash|fmha|attention|_attn", Kind.ATTENTION),
        (r"batch_?norm|bn_(fw|bw)|layer_?norm|rms_?norm|group_?norm|GammaBeta", Kind.NORM),
        (r"nchwToNhwc|nhwcToNchw", Kind.COPY),
        (r"conv|wgrad|dgrad|fprop|winograd|implicit_gemm|Im2Col|Col2Im", Kind.CONV),
        (r"gemm|gemv|cublas|cutlass|splitK|matmul|_mm_|s\d+gemm|nvjet", Kind.GEMM),
        (r"softmax", Kind.SOFTMAX),
        (r"pool", Kind.POOL),
        (r"embedding|indexSelect", Kind.EMBEDDING),
        (r"index|gather|scatter", Kind.INDEX),
        (r"sort|topk", Kind.SORT),
        (r"cumsum|scan_", Kind.SCAN),
        (r"lstm|gru|rnn", Kind.RNN),
        (r"reduce|triton_(red|per)", Kind.REDUCE),
        (r"copy|CatArray|transpose|fill|memset|memcpy", Kind.COPY),
        (r"elementwise|pointwise|vectorized|triton_poi|dropout|_for_each|nll_loss|threshold", Kind.ELEMENTWISE),
    )
)


@lru_cache(maxsize=8192)
def common_name(name: str) -> str:
    """An operator's name, whoever wrote it.

    >>> common_name("aten::addmm"), common_name("aten.mm"), common_name("rigwise.conv_wgrad"), common_name("aten::add_")
    ('mm', 'mm', 'convolution_backward', 'add')
    """
    bare = re.sub(r"^(aten|rigwise|torch|mkldnn|flash_attn|vllm)(::|\.)", "", name)
    bare = bare.partition(".")[0].strip()
    if len(bare) > 1 and bare.endswith("_") and not bare.endswith("__"):
        bare = bare[:-1]
    return next((same for pattern, same in _SAME if pattern.fullmatch(bare)), bare)


@lru_cache(maxsize=65536)
def kind_of_kernel(name: str) -> Kind:
    """The family that a kernel's name tells; ``Kind.UNKNOWN`` where it tells none.

    >>> kind_of_kernel("ampere_sgemm_128x64_tn").value, kind_of_kernel("flash_fwd_kernel").value
    ('gemm', 'attention')
    """
    return next((kind for pattern, kind in _KERNELS if pattern.search(name)), Kind.UNKNOWN)

"""Which family of cost an operator belongs to. Pure data.

An operator that is in no row keeps ``Kind.UNKNOWN``: it is counted as memory traffic and listed, never
dropped. A trailing underscore (in place) and the prefix ``_foreach_`` do not change the family.
"""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.graph.op import Kind

_GEMM = """
    mm addmm bmm baddbmm mv addmv dot vdot addr ger linear matmul _grouped_mm _scaled_mm _scaled_grouped_mm _int_mm
    linear_backward linalg_multi_dot cdist _cdist_forward _cdist_backward
"""

_CONV = "convolution _convolution convolution_overrideable cudnn_convolution mkldnn_convolution miopen_convolution"

_ATTENTION = """
    scaled_dot_product_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_backward
    _scaled_dot_product_efficient_attention _scaled_dot_product_efficient_attention_backward
    _scaled_dot_product_cudnn_attention _scaled_dot_product_cudnn_attention_backward
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention_for_cpu_backward
    _flash_attention_forward _flash_attention_backward _efficient_attention_forward _efficient_attention_backward
"""

_NORM = """
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward
    native_batch_norm native_batch_norm_backward _native_batch_norm_legit _native_batch_norm_legit_no_training
    _native_batch_norm_legit_functional _batch_norm_with_update _batch_norm_no_update batch_norm_backward
    cudnn_batch_norm cudnn_batch_norm_backward miopen_batch_norm miopen_batch_norm_backward batch_norm_stats
    batch_norm_elemt batch_norm_backward_reduce batch_norm_backward_elemt batch_norm_gather_stats_with_counts
    _fused_rms_norm _fused_rms_norm_backward rms_norm layer_norm group_norm instance_norm
    _weight_norm_interface _weight_norm_interface_backward renorm
"""

_SOFTMAX = """
    _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data _safe_softmax _masked_softmax
    _masked_softmax_backward logsumexp _logcumsumexp logcumsumexp _sparse_softmax _sparse_log_softmax
"""

_ARITHMETIC = """
    add sub rsub mul div true_divide floor_divide remainder fmod neg abs sign sgn reciprocal pow float_power
    square sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh
    atanh sinc ceil floor round trunc frac clamp clamp_min clamp_max clip maximum minimum fmax fmin lerp addcmul addcdiv
    add_relu hypot copysign nextafter ldexp frexp xlogy special_xlog1py special_entr logaddexp logaddexp2 logit
    erf erfc erfinv special_erfcx special_ndtri special_log_ndtr lgamma digamma polygamma mvlgamma igamma igammac i0
    special_i0e special_i1 special_i1e sigmoid deg2rad rad2deg nan_to_num conj_physical angle real imag complex polar
    view_as_complex view_as_real cross trilu heaviside
    bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__
    __lshift__ __rshift__ logical_and logical_or logical_xor logical_not gcd lcm
    eq ne lt le gt ge isnan isinf isfinite isposinf isneginf signbit isclose where isin
"""

_ACTIVATION = """
    relu relu6 leaky_relu rrelu_with_noise prelu _prelu_kernel elu celu selu gelu silu mish softplus softshrink
    hardshrink hardtanh hardsigmoid hardswish threshold log_sigmoid_forward glu tanhshrink softsign
    relu_backward leaky_relu_backward rrelu_with_noise_backward _prelu_kernel_backward elu_backward gelu_backward
    silu_backward mish_backward softplus_backward softshrink_backward hardshrink_backward hardtanh_backward
    hardsigmoid_backward hardswish_backward threshold_backward log_sigmoid_backward glu_backward sigmoid_backward
    tanh_backward logit_backward infinitely_differentiable_gelu_backward
"""

_DROPOUT_AND_LOSS = """
    native_dropout native_dropout_backward _fused_dropout bernoulli dropout masked_scale feature_dropout alpha_dropout
    mse_loss_backward l1_loss_backward smooth_l1_loss_backward huber_loss_backward soft_margin_loss_backward
    binary_cross_entropy_backward binary_cross_entropy_with_logits_backward kl_div_backward
    nll_loss_backward nll_loss2d_backward _amp_foreach_non_finite_check_and_unscale _amp_update_scale
"""

_REDUCE = """
    sum nansum mean nanmean prod amax amin aminmax max min argmax argmin any all norm linalg_vector_norm var var_mean
    std std_mean count_nonzero median nanmedian mode trace equal allclose dist logsumexp_backward
    nll_loss_forward nll_loss2d_forward nll_loss nll_loss2d mse_loss l1_loss smooth_l1_loss huber_loss soft_margin_loss
    binary_cross_entropy binary_cross_entropy_with_logits kl_div cosine_similarity pairwise_distance _pdist_forward
    _pdist_backward _ctc_loss _ctc_loss_backward multi_margin_loss multilabel_margin_loss_forward histc bincount
    _histogramdd_bin_edges segment_reduce _segment_reduce_backward _unique2 unique_dim unique_consecutive
"""

_POOL = """
    max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool2d_with_indices_backward
    max_pool3d_with_indices max_pool3d_with_indices_backward avg_pool1d avg_pool2d avg_pool2d_backward avg_pool3d
    avg_pool3d_backward adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d
    _adaptive_avg_pool3d_backward adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool2d_backward adaptive_max_pool3d adaptive_max_pool3d_backward fractional_max_pool2d
    fractional_max_pool2d_backward max_unpool2d max_unpool3d
    upsample_nearest1d upsample_nearest1d_backward upsample_nearest2d upsample_nearest2d_backward upsample_nearest3d
    upsample_nearest3d_backward _upsample_nearest_exact1d _upsample_nearest_exact1d_backward _upsample_nearest_exact2d
    _upsample_nearest_exact2d_backward upsample_linear1d upsample_linear1d_backward upsample_bilinear2d
    upsample_bilinear2d_backward _upsample_bilinear2d_aa _upsample_bilinear2d_aa_backward upsample_bicubic2d
    upsample_bicubic2d_backward _upsample_bicubic2d_aa _upsample_bicubic2d_aa_backward upsample_trilinear3d
    upsample_trilinear3d_backward grid_sampler_2d grid_sampler_2d_backward grid_sampler_3d grid_sampler_3d_backward
    affine_grid_generator
"""

_EMBEDDING = """
    embedding embedding_dense_backward embedding_sparse_backward embedding_backward embedding_bag _embedding_bag
    _embedding_bag_forward_only _embedding_bag_backward _embedding_bag_dense_backward
    _embedding_bag_per_sample_weights_backward embedding_renorm
"""

_INDEX = """
    index _unsafe_index index_put _index_put_impl _unsafe_index_put index_select index_select_backward index_add
    index_copy index_fill index_reduce gather gather_backward scatter scatter_add scatter_reduce take take_along_dim
    put masked_fill masked_scatter masked_scatter_backward masked_select nonzero nonzero_static argwhere bucketize
    searchsorted one_hot tril_indices triu_indices
    select_backward slice_backward diagonal_backward value_selecting_reduction_backward unfold_backward
    index_put_impl _sparse_coo_tensor_unsafe
"""

_COPY = """
    copy clone contiguous _to_copy to _copy_from cat concat stack hstack vstack dstack split_copy unbind_copy repeat
    repeat_interleave tile roll flip fliplr flipud rot90 tril triu constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad1d_backward reflection_pad2d_backward replication_pad1d replication_pad2d replication_pad2d_backward
    reflection_pad3d reflection_pad3d_backward replication_pad3d replication_pad3d_backward pad fill zero zeros
    zeros_like ones ones_like full full_like new_zeros new_ones new_full scalar_tensor lift arange linspace logspace
    eye range rand rand_like randn randn_like randint randint_like randperm normal normal_functional uniform random
    exponential geometric cauchy log_normal log_uniform multinomial
    im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle diag_embed diag block_diag
    slice_scatter select_scatter diagonal_scatter as_strided_scatter as_strided_copy view_copy permute_copy t_copy
    expand_copy transpose_copy slice_copy select_copy _reshape_copy narrow_copy resolve_conj resolve_neg pin_memory
    meshgrid cartesian_prod vander movedim_copy _pin_memory quantize_per_tensor dequantize
    fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask
"""

_SORT = "sort argsort topk kthvalue msort unique"

_SCAN = "cumsum cumprod cummax cummin cumsum_backward cumprod_backward _cummax_helper _cummin_helper associative_scan"

_RNN = """
    lstm gru rnn_tanh rnn_relu _cudnn_rnn _cudnn_rnn_backward miopen_rnn miopen_rnn_backward mkldnn_rnn_layer
    mkldnn_rnn_layer_backward _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl _thnn_fused_gru_cell
    _thnn_fused_gru_cell_backward lstm_cell gru_cell
"""

_OPTIMIZER = "_fused_adam _fused_adamw _fused_sgd _fused_adagrad"

_ATEN: Mapping[Kind, str] = {
    Kind.GEMM: _GEMM,
    Kind.CONV: _CONV,
    Kind.ATTENTION: _ATTENTION,
    Kind.NORM: _NORM,
    Kind.SOFTMAX: _SOFTMAX,
    Kind.ELEMENTWISE: _ARITHMETIC + _ACTIVATION + _DROPOUT_AND_LOSS,
    Kind.REDUCE: _REDUCE,
    Kind.POOL: _POOL,
    Kind.EMBEDDING: _EMBEDDING,
    Kind.INDEX: _INDEX,
    Kind.COPY: _COPY,
    Kind.SORT: _SORT,
    Kind.SCAN: _SCAN,
    Kind.RNN: _RNN,
    Kind.OPTIMIZER: _OPTIMIZER,
}

#: Operators that capture makes itself; ``capture/from_torch/canonical.py`` says what their tensors are.
_OWN: Mapping[str, Kind] = {
    "rigwise.conv_dgrad": Kind.CONV,
    "rigwise.conv_wgrad": Kind.CONV,
    "rigwise.attention": Kind.ATTENTION,
    "rigwise.attention_backward": Kind.ATTENTION,
    "rigwise.recurrent": Kind.RNN,
    "rigwise.recurrent_dgrad": Kind.RNN,
    "rigwise.recurrent_wgrad": Kind.RNN,
    "rigwise.linear_scan": Kind.SCAN,
    "rigwise.linear_scan_backward": Kind.SCAN,
    "rigwise.linear_scan_step": Kind.SCAN,
    "rigwise.lennard_jones": Kind.PAIRWISE,
}

#: Every operator with a known family, by its full name.
KINDS: Mapping[str, Kind] = {f"aten.{name}": kind for kind, names in _ATEN.items() for name in names.split()} | dict(
    _OWN
)

_COLLECTIVE_PREFIXES = ("_c10d_functional.", "c10d_functional.", "c10d.")


def kind_of(name: str) -> Kind:
    """The family of an operator, ``Kind.UNKNOWN`` where no row has it.

    >>> kind_of("aten.addmm").value, kind_of("aten.relu_").value, kind_of("mine.solve").value
    ('gemm', 'elementwise', 'unknown')
    """
    if name in KINDS:
        return KINDS[name]
    if name.startswith(_COLLECTIVE_PREFIXES):
        return Kind.COLLECTIVE
    plain = name.replace("aten._foreach_", "aten.")
    return KINDS.get(plain, KINDS.get(plain.removesuffix("_"), Kind.UNKNOWN))

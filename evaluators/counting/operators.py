"""Rules for the work of PyTorch's operators, from shapes, one rule per operator.

Knows the dispatcher's operators (`torch.ops.aten`): multiply-accumulates of products, passes of
element-wise work, and operators that only move data. Does not know modules, nor how operators are
intercepted (`torch_counter.py`). Tested against `torch.utils.flop_counter`, which has fewer rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

aten = torch.ops.aten

Arguments = Mapping[str, Any]
"""Arguments of an operator by the names of its schema."""

Macs = Callable[[Arguments, Any], int]
"""`(arguments, result) -> multiply-accumulates`."""


def packet_name(function: Any) -> str:
    """Name of an operator without its overload: `aten::mm` for `aten.mm.default`."""
    return str(function._schema.name)


def arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Positional and keyword arguments by the names of the operator's schema."""
    names = [argument.name for argument in function._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


# Convolutions


def _convolution(a: Arguments, out: Any) -> int:
    """One filter per position on the smaller side of the stride (issue 78 of fvcore)."""
    weight = a["weight"].shape
    # A transposed convolution applies filters at input positions; both weights are (_, _ / groups).
    at = a["input"] if a.get("transposed", False) else _first(out)
    return int(at.shape[0] * prod(at.shape[2:]) * prod(weight))


def _mkldnn_convolution(a: Arguments, out: Any) -> int:
    at = _first(out)
    return int(at.shape[0] * prod(at.shape[2:]) * prod(a["weight"].shape))


def _convolution_backward(a: Arguments, out: Any) -> int:
    """Gradients of input and weight each cost as much as the forward pass."""
    at = a["input"] if a["transposed"] else a["grad_output"]
    forward = at.shape[0] * prod(at.shape[2:]) * prod(a["weight"].shape)
    return int(forward * sum(map(bool, a["output_mask"][:2])))


def _conv_tbc(a: Arguments, out: Any) -> int:
    time, batch, _ = _first(out).shape
    return int(time * batch * prod(a["weight"].shape))


# Matrix products


def _product(left: str, right: str) -> Macs:
    """Rule for `(.., m, k) @ (k, n)` or `(b, m, k) @ (b, k, n)`."""

    def macs(a: Arguments, out: Any) -> int:
        return int(prod(a[left].shape) * a[right].shape[-1])

    return macs


def _vector_product(left: str, right: str) -> Macs:
    """Rule for `(m, k) @ (k,)` or `(k,) @ (k,)`."""
    return lambda a, out: int(prod(a[left].shape))


def _trilinear(a: Arguments, out: Any) -> int:
    """Bilinear layer: the product over both inputs and the weight."""
    i1, i2, i3 = a["i1"], a["i2"], a["i3"]
    ranks = len(a["expand1"]) + i1.dim()
    shape = [1] * ranks
    for tensor, expand in ((i1, a["expand1"]), (i2, a["expand2"]), (i3, a["expand3"])):
        sizes = iter(tensor.shape)
        for dim in range(ranks):
            if dim not in expand:
                shape[dim] = max(shape[dim], next(sizes))
    return int(prod(shape))


def _grouped_mm(a: Arguments, out: Any) -> int:
    """Each row is multiplied by the matrix of its group; without rows, groups share the sum."""
    shape = _first(out).shape
    by_sum = a["self"].dim() == a["mat2"].dim() == 2
    return int(prod(shape[1:] if by_sum else shape) * a["self"].shape[-1])


def grouped_result(a: Arguments) -> Tensor:
    """Result of a grouped product: fake tensors refuse types that processors compute in."""
    left, right = a["self"], a["mat2"]
    match left.dim(), right.dim():
        case 2, 2:
            shape = [a["offs"].shape[0], left.shape[0], right.shape[1]]
        case 2, 3:
            shape = [left.shape[0], right.shape[2]]
        case 3, 2:
            shape = [left.shape[1], right.shape[1]]
        case _:
            shape = [left.shape[0], left.shape[1], right.shape[2]]
    result: Tensor = left.new_empty(shape, dtype=a.get("out_dtype") or left.dtype)
    return result


def _mm_by_weight(a: Arguments, out: Any) -> int:
    return int(prod(_first(out).shape) * a["self"].shape[-1])


def _euclidean_dist(a: Arguments, out: Any) -> int:
    """Distances by one product, of points with their squared norm and a one."""
    return int(prod(_first(out).shape) * (a["x1"].shape[-1] + 2))


def sparse_product(left: Tensor, right: Tensor, dense: int) -> int | None:
    """Multiply-accumulates of a product, of which a sparse operand takes part with what it has.

    None if it is unknown how much that is.
    """
    sparse = [operand for operand in (left, right) if operand.layout != torch.strided]
    for operand in sparse:
        coordinates = operand.layout == torch.sparse_coo
        values = operand._values() if coordinates else operand.values()  # those of whole blocks
        if isinstance(operand, FakeTensor) and not values.numel():
            return None
        if len(sparse) == 2 and left.dim() == right.dim() == 2:
            return _pairs(left, right)
        return dense * values.numel() // max(1, operand.numel())
    return dense


def _pairs(left: Tensor, right: Tensor) -> int:
    """Number of pairs of elements that meet in the product of two sparse matrices."""
    with unset_fake_temporarily():
        columns = left.to_sparse_coo()._indices()[1].bincount(minlength=left.shape[1])
        rows = right.to_sparse_coo()._indices()[0].bincount(minlength=left.shape[1])
        return int((columns * rows).sum())


# Attention


def attention(a: Arguments, out: Any) -> int:
    """Scores and weighted sum over all pairs, also in causal attention."""
    query, key, value = a["query"], a["key"], a["value"]
    scores = prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


def attention_backward(a: Arguments, out: Any) -> int:
    """Recomputed scores, and two gradients for each of the two products."""
    query, key, value = a["query"], a["key"], a["value"]
    scores = prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (3 * query.shape[-1] + 2 * value.shape[-1]))


# Recurrent layers


def _mkldnn_rnn(a: Arguments, out: Any) -> int:
    steps, batch = a["input"].shape[:2]
    return int(steps * batch * (prod(a["weight0"].shape) + prod(a["weight1"].shape)))


def _cudnn_rnn(a: Arguments, out: Any) -> int:
    steps = prod(a["input"].shape[:-1])
    return int(steps * sum(prod(w.shape) for w in a["weight"] if w.dim() == 2))


def _packed_linear(a: Arguments, out: Any) -> int:
    return int(prod(_first(out).shape) * a["X"].shape[-1])


def _first(out: Any) -> Tensor:
    found = out[0] if isinstance(out, (tuple, list)) else out
    assert isinstance(found, Tensor)
    return found


CONVOLUTIONS: dict[str, Macs] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "aten::cudnn_convolution": _mkldnn_convolution,
    "aten::mkldnn_convolution": _mkldnn_convolution,
    "aten::_slow_conv2d_forward": _mkldnn_convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::conv_tbc": _conv_tbc,
}

PRODUCTS: dict[str, tuple[Macs, tuple[str, str]]] = {
    "aten::mm": (_product("self", "mat2"), ("self", "mat2")),
    "aten::addmm": (_product("mat1", "mat2"), ("mat1", "mat2")),
    "aten::addmm_": (_product("mat1", "mat2"), ("mat1", "mat2")),
    "aten::_addmm_activation": (_product("mat1", "mat2"), ("mat1", "mat2")),
    "aten::bmm": (_product("self", "mat2"), ("self", "mat2")),
    "aten::baddbmm": (_product("batch1", "batch2"), ("batch1", "batch2")),
    "aten::baddbmm_": (_product("batch1", "batch2"), ("batch1", "batch2")),
    "aten::addbmm": (_product("batch1", "batch2"), ("batch1", "batch2")),
    "aten::addbmm_": (_product("batch1", "batch2"), ("batch1", "batch2")),
    "aten::mv": (_vector_product("self", "vec"), ("self", "vec")),
    "aten::addmv": (_vector_product("mat", "vec"), ("mat", "vec")),
    "aten::addmv_": (_vector_product("mat", "vec"), ("mat", "vec")),
    "aten::dot": (_vector_product("self", "tensor"), ("self", "tensor")),
    "aten::vdot": (_vector_product("self", "other"), ("self", "other")),
    "aten::_sparse_addmm": (_product("mat1", "mat2"), ("mat1", "mat2")),
    "aten::_int_mm": (_product("self", "mat2"), ("self", "mat2")),
    "aten::_scaled_mm": (_product("self", "mat2"), ("self", "mat2")),
    "aten::_grouped_mm": (_grouped_mm, ("self", "mat2")),
    "aten::_scaled_grouped_mm": (_grouped_mm, ("self", "mat2")),
    "aten::_weight_int8pack_mm": (_mm_by_weight, ("self", "mat2")),
    "aten::_weight_int4pack_mm": (_mm_by_weight, ("self", "mat2")),
    "aten::_weight_int4pack_mm_for_cpu": (_mm_by_weight, ("self", "mat2")),
    "aten::_euclidean_dist": (_euclidean_dist, ("x1", "x2")),
    "aten::_trilinear": (_trilinear, ("i1", "i2")),
}
"""Matrix products: the rule, and the names of the two operands."""

RESULTS: dict[str, Callable[[Arguments], Tensor]] = {"aten::_grouped_mm": grouped_result}
"""Results of operators on fake tensors, where torch's own rule refuses what runs."""

_FUSED_ATTENTIONS = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)

ATTENTIONS: dict[str, Macs] = {
    **{f"aten::{name}": attention for name in _FUSED_ATTENTIONS},
    "aten::_scaled_dot_product_attention_math_for_mps": attention,
    **{f"aten::{name}_backward": attention_backward for name in _FUSED_ATTENTIONS},
}

RECURRENT: dict[str, Macs] = {
    "aten::mkldnn_rnn_layer": _mkldnn_rnn,
    "aten::_cudnn_rnn": _cudnn_rnn,
    "quantized::linear_dynamic": _packed_linear,
    "quantized::linear_relu_dynamic": _packed_linear,
    "quantized::linear_dynamic_fp16": _packed_linear,
    "quantized::linear_relu_dynamic_fp16": _packed_linear,
}

# Element-wise work: number of passes of an operator over the elements it reads or writes.

NORMALISATIONS = {
    "aten::native_batch_norm": 2,
    "aten::_native_batch_norm_legit": 2,
    "aten::_native_batch_norm_legit_no_training": 2,
    "aten::_native_batch_norm_legit_functional": 2,
    "aten::_batch_norm_with_update": 2,
    "aten::_batch_norm_no_update": 2,
    "aten::cudnn_batch_norm": 2,
    "aten::batch_norm_backward": 5,
    "aten::native_batch_norm_backward": 5,
    "aten::native_layer_norm": 5,
    "aten::native_layer_norm_backward": 8,
    "aten::native_group_norm": 5,
    "aten::native_group_norm_backward": 8,
    "aten::_fused_rms_norm": 4,
    "aten::_fused_rms_norm_backward": 6,
    "aten::_softmax": 5,
    "aten::_safe_softmax": 5,
    "aten::_log_softmax": 5,
    "aten::_softmax_backward_data": 3,
    "aten::_log_softmax_backward_data": 3,
}
"""Passes over the first input; for batch norm the scale and shift of inference."""

SOFTMAXES = {"aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax"}

POOLS = {
    f"aten::{name}"
    for name in (
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "max_pool2d",
        "mkldnn_max_pool2d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
    )
}
"""Pooling: each output reads one window."""


def _names(text: str) -> set[str]:
    return {f"aten::{name}" for name in text.split()}


READERS = _names(
    """
    floor_divide floor_divide_ remainder fmod bitwise_and bitwise_or bitwise_not
    hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ leaky_relu leaky_relu_
    elu elu_ celu celu_ selu selu_ relu relu_ relu6 relu6_ gelu gelu_ silu silu_ mish mish_
    softplus softplus_ log_sigmoid log_sigmoid_ hardshrink hardshrink_ softshrink softshrink_
    threshold threshold_ tanh tanh_ sigmoid sigmoid_ rsqrt rsqrt_ prelu prelu_ rrelu rrelu_
    softsign softsign_ masked_fill masked_fill_ where where_
    _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d adaptive_avg_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool2d_backward max_pool2d_with_indices_backward
    sum mean var std var_mean std_mean prod amax amin max min aminmax argmax argmin norm
    linalg_vector_norm logsumexp any all cumsum cumprod cummax logcumsumexp topk sort argsort
    kthvalue median mode count_nonzero nll_loss_forward nll_loss_backward nll_loss2d_forward
    nll_loss2d_backward mse_loss smooth_l1_loss binary_cross_entropy huber_loss dist
    _cdist_forward bincount histc searchsorted bucketize threshold_backward gelu_backward
    silu_backward sigmoid_backward tanh_backward hardswish_backward hardsigmoid_backward
    hardtanh_backward leaky_relu_backward elu_backward native_dropout_backward _embedding_bag
    embedding_dense_backward _weight_norm_interface _foreach_norm multinomial trace isin renorm
    _prelu_kernel upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d
    _upsample_bicubic2d_aa upsample_linear1d upsample_trilinear3d grid_sampler_2d
    grid_sampler_3d native_dropout _fused_dropout bernoulli bernoulli_ dropout glu glu_backward
    _thnn_fused_lstm_cell _thnn_fused_gru_cell pow addcmul addcdiv lerp softplus_backward
    log_sigmoid_forward log_sigmoid_backward rrelu_with_noise clamp scatter_add scatter_add_
    scatter_reduce index_add index_add_ index_put_ _fused_adam_ _fused_adamw_ _fused_sgd_
    _amp_foreach_non_finite_check_and_unscale_ diff
    """
)
"""Reductions and the like: one operation per element of the larger of input and output.

Some of them are not tagged `pointwise` or `reduction` in every release of PyTorch."""

MOVES = _names(
    """
    clone copy_ copy _to_copy contiguous cat stack hstack vstack index index_select index_copy
    index_copy_ gather embedding slice_scatter select_scatter diagonal_scatter
    as_strided_scatter scatter scatter_ constant_pad_nd reflection_pad1d reflection_pad2d
    replication_pad1d replication_pad2d replication_pad3d _pad_circular roll flip repeat
    repeat_interleave tile arange range linspace logspace zeros ones full empty eye
    scalar_tensor empty_strided empty_like zeros_like ones_like full_like rand rand_like randn
    randn_like randint randint_like randperm normal_ normal uniform_ random_ exponential_
    new_zeros new_ones new_empty new_full new_empty_strided detach detach_ lift lift_fresh
    lift_fresh_copy alias _unsafe_view _reshape_alias reshape _reshape_copy view_copy
    expand_copy split_copy unbind_copy as_strided_ set_ resize_ resize_as_ zero_ fill_ fill tril
    triu tril_indices triu_indices im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle one_hot upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact2d nonzero nonzero_static masked_select unique2 _unique2
    _local_scalar_dense is_same_size sym_size sym_numel sym_stride sym_storage_offset
    _assert_async _assert_tensor_metadata _assert_scalar _has_compatible_shallow_copy_type
    squeeze_ unsqueeze_ transpose_ t_ swapaxes_ record_stream dropout_ meshgrid tensor_split
    fill_diagonal_ masked_scatter masked_scatter_ slice_backward select_backward unfold_backward
    rot90 cartesian_prod combinations unsafe_split unsafe_chunk split_with_sizes_copy
    _nested_tensor_size_contiguous block_diag diag diag_embed take take_along_dim put_
    _unsafe_index _unsafe_index_put upsample_nearest2d_backward constant_pad_nd_backward
    reflection_pad2d_backward narrow_copy permute_copy is_pinned pin_memory result_type equal
    isfinite_all sym_constrain_range sym_constrain_range_for_size
    """
) | {"prim::device", "prim::layout", "prims::device_put", "prims::iota"}
"""Operators that only create, inspect or move data."""


MARKS = "profiler::"
"""Beginning of the names of operators that mark a range for a profiler."""


def elementwise(function: Any, a: Arguments, inputs: Sequence[Tensor], out: Any) -> int | None:
    """Element operations of an operator; None if there is no rule for it."""
    name = packet_name(function)
    if name in NORMALISATIONS:
        return NORMALISATIONS[name] * inputs[0].numel()
    if name in POOLS:
        return _pooling(a, inputs[0], _first(out))
    if name in MOVES or function.is_view or name.startswith(MARKS):
        return 0
    if torch.Tag.pointwise in function.tags or torch.Tag.reduction in function.tags:
        return _largest(inputs, out)
    if name in READERS or name.startswith("aten::_foreach_"):
        return _largest(inputs, out)
    forward = name.removesuffix("_backward")
    if forward != name and any(forward in known for known in (READERS, POOLS, MOVES)):
        return _largest(inputs, out)
    return None


def _pooling(a: Arguments, x: Tensor, out: Tensor) -> int:
    window = a["kernel_size"]
    dims = out.dim() - 2  # with a batch; a single number is the window on each axis
    sides = [window] * dims if isinstance(window, int) else list(window)
    if len(sides) == 1:
        sides *= dims
    return out.numel() * prod(min(k, n) for k, n in zip(sides, x.shape[-len(sides) :], strict=True))


def _largest(inputs: Sequence[Tensor], out: Any) -> int:
    results = out if isinstance(out, (tuple, list)) else (out,)
    sizes = [t.numel() for t in (*inputs, *results) if isinstance(t, Tensor)]
    return max(sizes, default=0)

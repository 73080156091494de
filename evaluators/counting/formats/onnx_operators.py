"""Classifies the operators of ONNX: products, element-wise work, and moves of data.

Knows names, including those of onnxruntime's own domain. Does not know the rules over shapes
(`onnx_counter.py`).
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNTED = _names(
    """
    Conv ConvTranspose ConvInteger QLinearConv FusedConv DeformConv MatMul MatMulInteger
    QLinearMatMul FusedMatMul Gemm FusedGemm QGemm MatMulIntegerToFloat MatMulNBits MatMulBnb4
    DynamicQuantizeMatMul Einsum Attention MultiHeadAttention GroupQueryAttention QAttention LSTM
    GRU RNN
    """
)
"""Operators with multiply-accumulates."""

MOVES = _names(
    """
    Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather GatherND GatherElements
    Shape Size Cast CastLike Constant ConstantOfShape Identity Expand Tile Pad Range ScatterND
    ScatterElements Scatter OneHot EyeLike DepthToSpace SpaceToDepth Compress NonZero Trilu
    ReverseSequence CenterCropPad Dropout RandomNormal RandomUniform RandomNormalLike
    RandomUniformLike SequenceConstruct SequenceAt SplitToSequence ConcatFromSequence Optional
    OptionalGetElement OptionalHasElement Unique SequenceEmpty SequenceInsert QLinearConcat
    ReorderInput ReorderOutput
    """
)
"""Operators that only create, inspect or move data."""

PACKED = ("MatMulNBits", "MatMulBnb4")
"""Products with weights of several to a byte; their attributes have the number of them."""

VIEWS = _names("Reshape Flatten Squeeze Unsqueeze Identity Shape Size Constant")
"""Moves that write no data."""

PASSING = _names("DequantizeLinear Cast Transpose Reshape Identity Unsqueeze")
"""Operators whose result counts as a weight if their input is one."""

PASSES = {
    "BatchNormalization": 2,
    "InstanceNormalization": 5,
    "GroupNormalization": 5,
    "LayerNormalization": 5,
    "SimplifiedLayerNormalization": 4,
    "SkipLayerNormalization": 6,
    "SkipSimplifiedLayerNormalization": 5,
    "RMSNormalization": 4,
    "LpNormalization": 3,
    "MeanVarianceNormalization": 5,
    "Softmax": 5,
    "LogSoftmax": 5,
    "QLinearSoftmax": 5,
    "BiasSoftmax": 6,
}
"""Element operations per element of the first input, as in `operators.py` for PyTorch."""

REDUCTIONS = (
    "Reduce",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "ArgMax",
    "ArgMin",
    "TopK",
    "CumSum",
    "Hardmax",
    "LRN",
    "QLinearGlobalAveragePool",
    "QLinearReduce",
)
"""Prefixes of the names of operators with one operation per element of their input."""

ELEMENTWISE = _names(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BiasGelu BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Ceil Celu Clip Cos Cosh DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp
    FastGelu Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less
    LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear QuickGelu
    QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu Reciprocal Relu Resize Round Selu Shrink
    Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Upsample
    Where Xor GridSample RotaryEmbedding Bernoulli BiasAdd BiasSplitGelu QLinearWhere
    """
)
"""Operators with one operation per element of their result."""

CONTROL = _names("If Loop Scan")
"""Operators with subgraphs."""

RANDOM = _names(
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial"
)
"""Operators whose results are not known beforehand."""

LEARNED_INPUTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "Gemm", "FusedGemm"), (1, 2)),
    "QLinearConv": (3, 8),
    "QGemm": (3, 6),
    "PRelu": (1,),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), (1, 2)),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), (1, 2)),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "MatMul": (0, 1),
    "DequantizeLinear": (0,),
}
"""Inputs that are learned whatever their size; elsewhere a single number may be a setting."""

STORED_INPUTS = {
    "QGemm": (0, 3, 6),
    "QLinearConcat": tuple(range(2, 300, 3)),
    "QLinearWhere": (1, 4),
    "QAttention": (0, 1, 2),
    "MatMulIntegerToFloat": (0, 1, 6),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "DynamicQuantizeLSTM": (0, 1, 2, 3, 7),
    "QEmbedLayerNormalization": (2, 3, 4, 5, 6),
    "MatMulNBits": (0, 1, 5),
    **dict.fromkeys(("MatMulBnb4", "MatMulInteger", "ConvInteger"), (0, 1)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "GatherBlockQuantized"), (0,)),
    **dict.fromkeys(("Resize", "Clip", "Upsample", "Pad"), (0,)),
}
"""Inputs that may be weights; the others are scales, zero points and sizes."""

STORED_INPUTS_OF_QLINEAR = (0, 3, 8)
"""The same of all other operators whose names begin with QLinear."""

NORMS = _names(
    "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization "
    "RMSNormalization SimplifiedLayerNormalization"
)
"""Operators whose inputs 1 and 2 are a scale and a shift, also where a network has none."""

ENLARGING = _names("Expand Slice Split Identity Unsqueeze Transpose")
"""Operators that exporters put between the first state of a network and those of its layers."""

RECURRENT = _names("LSTM GRU RNN")
STATES = (5, 6)
"""Inputs of recurrent operators that are their first states."""

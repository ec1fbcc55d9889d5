"""What may stand in somebody's model: names, each of a thing that only computes.

Whatever is not named here is refused, so a name that is missing costs a message, and a name that
should not stand here costs more: nothing that reads or writes a file, opens a connection, calls
back into Python or takes a function by its name belongs into any of these lists.
"""

from __future__ import annotations


def _names(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


def _dimensions(*stems: str) -> frozenset[str]:
    return frozenset(f"{stem}{n}D" for stem in stems for n in (1, 2, 3))


# Layers of Keras 1.2 to 3.15 under all names that Keras itself has for them.
LAYERS = _dimensions(
    "AveragePooling", "AvgPool", "Conv", "Convolution", "Cropping", "GlobalAveragePooling",
    "GlobalAvgPool", "GlobalMaxPool", "GlobalMaxPooling", "MaxPool", "MaxPooling",
    "SpatialDropout", "UpSampling", "ZeroPadding", "AdaptiveAveragePooling", "AdaptiveMaxPooling",
) | frozenset(
    f"{stem}{n}DTranspose" for stem in ("Conv", "Convolution") for n in (1, 2, 3)
) | _names(
    "Functional Model Sequential InputLayer Activation ActivityRegularization Add",
    "AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average",
    "BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding",
    "CenterCrop Concatenate",
    "ConvLSTM1D ConvLSTM2D ConvLSTM3D ContrastLimitedAdaptiveHistogramEqualization CutMix Dense",
    "DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding",
    "Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise GroupNormalization",
    "GroupQueryAttention Identity LSTM LSTMCell LayerNormalization LeakyReLU LocallyConnected1D",
    "LocallyConnected2D Masking Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply",
    "Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness",
    "RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform",
    "RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue",
    "RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation",
    "RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU RepeatVector",
    "Rescaling Reshape Resizing STFTSpectrogram SeparableConv1D SeparableConv2D",
    "SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization",
    "SpectralNormalization StackedRNNCells Subtract SyncBatchNormalization ThresholdedReLU",
    "TimeDistributed UnitNormalization TFOpLambda SlicingOpLambda TensorFlowOpLayer",
)  # fmt: skip

# Keras's own, but they do more than compute; the words say what.
REFUSED_LAYERS = {
    "Lambda": "a Lambda layer holds code, which is never run",
    "TFSMLayer": "it loads a SavedModel of its own by a path",
    "TorchModuleWrapper": "it holds a pickle, which is code",
    "JaxLayer": "it holds a function, which is never run",
    "FlaxLayer": "it holds a function, which is never run",
    "ClassMethod": "it calls any method of TensorFlow by its name",
    "InstanceMethod": "it calls any method of TensorFlow by its name",
    "InstanceProperty": "it calls any method of TensorFlow by its name",
    "StringLookup": "it is for text, and may read files",
    "IntegerLookup": "it is for tables, and may read files",
    "TextVectorization": "it is for text, and may read files",
}

# What layers are made with.
PARTS = _names(
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal",
    "LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT",
    "STFTInitializer TruncatedNormal VarianceScaling Zeros",
    "L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm",
    "DTypePolicy FloatDTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy DTypePolicyMap",
    "Policy PolicyV1 SeedGenerator InputSpec",
)
PART_NAMES = PARTS | _names(
    "constant glorot_normal glorot_uniform he_normal he_uniform identity Identity lecun_normal",
    "lecun_uniform ones one orthogonal random_normal random_uniform stft truncated_normal",
    "variance_scaling zeros zero normal uniform l1 l2 l1_l2 L1L2 orthogonal_regularizer max_norm",
    "min_max_norm non_neg radial_constraint unit_norm maxnorm nonneg unitnorm",
)
ACTIVATIONS = _names(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh",
    "leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink",
    "softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh",
    "tanh_shrink threshold",
)
# Values that Keras writes as objects.
VALUES = _names(
    "__keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__ __tuple__ TensorShape"
)

# Functions of TensorFlow that tf.keras 2 stores by name (TFOpLambda), with or without compat.v1.
FUNCTIONS = _names(
    "__operators__.add __operators__.getitem __operators__.eq __operators__.ne",
    "math.abs math.add math.add_n math.argmax math.argmin math.ceil math.cos math.cumsum",
    "math.divide math.divide_no_nan math.equal math.erf math.exp math.expm1 math.floor",
    "math.floordiv math.floormod math.greater math.greater_equal math.l2_normalize math.less",
    "math.less_equal math.log math.log1p math.log_sigmoid math.log_softmax math.logical_and",
    "math.logical_not math.logical_or math.maximum math.minimum math.mod math.multiply",
    "math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal math.reduce_all",
    "math.reduce_any math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min",
    "math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance math.rint math.round",
    "math.rsqrt math.scalar_mul math.sigmoid math.sign math.sin math.softmax math.softplus",
    "math.sqrt math.square math.squared_difference math.subtract math.tanh math.top_k",
    "math.truediv math.xdivy add subtract multiply divide truediv realdiv abs argmax",
    "cast clip_by_value concat convert_to_tensor einsum expand_dims eye fill gather gather_nd",
    "identity linalg.matmul linalg.l2_normalize matmul maximum minimum negative norm ones",
    "ones_like one_hot pad pow rank repeat reshape reverse roll round shape size slice split sqrt",
    "square squeeze stack stop_gradient strided_slice tensordot tile transpose unstack where zeros",
    "zeros_like space_to_depth depth_to_space",
    "nn.avg_pool nn.avg_pool2d nn.batch_normalization nn.bias_add nn.conv2d nn.crelu",
    "nn.depth_to_space nn.depthwise_conv2d nn.dropout nn.elu nn.gelu nn.l2_normalize",
    "nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.lrn nn.max_pool",
    "nn.max_pool2d nn.moments nn.relu nn.relu6 nn.selu nn.separable_conv2d nn.sigmoid nn.silu",
    "nn.softmax nn.softplus nn.softsign nn.space_to_depth nn.swish nn.tanh sigmoid tanh",
    "image.adjust_brightness image.adjust_contrast image.central_crop image.crop_to_bounding_box",
    "image.flip_left_right image.flip_up_down image.grayscale_to_rgb",
    "image.pad_to_bounding_box image.per_image_standardization image.resize",
    "image.resize_with_crop_or_pad image.resize_with_pad image.rgb_to_grayscale",
    "image.resize_bilinear image.resize_nearest_neighbor",
) | frozenset(f"keras.activations.{name}" for name in ACTIVATIONS)

# Operations that Keras 3 stores as objects of keras.src.ops.
OPERATIONS = _names(
    "Abs Absolute Add All Amax Amin Any Argmax Argmin Average AveragePool AdaptiveAveragePool",
    "AdaptiveMaxPool BatchNorm BroadcastTo Cast Ceil Celu Clip Concatenate Conv ConvTranspose Cos",
    "Cumsum DepthwiseConv Divide DivideNoNan Einsum Elu Equal Erf Exp ExpandDims Expm1 Flip Floor",
    "FloorDivide Gelu GetItem Glu Greater GreaterEqual HardShrink HardSigmoid HardSilu HardTanh",
    "Less LessEqual LeakyRelu Log Log1p LogSigmoid LogSoftmax LogicalAnd LogicalNot LogicalOr",
    "Logsumexp Matmul Max MaxPool Maximum Mean Median Min Minimum Mod Moments Moveaxis Multiply",
    "Negative Norm Normalize NotEqual OneHot OnesLike Pad PadImages Power Prod",
    "RGBToGrayscale RGBToHSV Reciprocal Relu Relu6 Repeat Reshape Resize Roll Round",
    "Rsqrt Selu SeparableConv Sigmoid Sign Silu Sin Slice SoftShrink Softmax Softplus Softsign",
    "SparsePlus Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Subtract Sum",
    "Swapaxes Take Tanh TanhShrink Tensordot Threshold Tile TopK Transpose TrueDivide",
    "Unstack Var Where ZerosLike CropImages RMSNorm LayerNorm",
)

# Operators of TensorFlow graphs. No variable of a resource that others share by name but Keras's
# own, no tables, queues, iterators, summaries, files, hosts or callbacks.
OPERATORS = _names(
    "Abs Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin Assert",
    "AssignAddVariableOp AssignSubVariableOp AssignVariableOp AvgPool AvgPoolGrad BatchMatMul",
    "BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddGrad BiasAddV1 Bitcast",
    "BroadcastArgs BroadcastGradientArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics",
    "ClipByValue Concat ConcatOffset ConcatV2 Const Conv2D Conv2DBackpropFilter",
    "Conv2DBackpropInput Conv3D Cos Cosh CropAndResize CropAndResizeGradImage Cumprod Cumsum",
    "DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter",
    "DepthwiseConv2dNativeBackpropInput DestroyResourceOp DisableCopyOnRead Div DivNoNan Einsum",
    "Elu EluGrad Empty EnsureShape Enter Equal Erf Erfc Exit Exp ExpandDims Expm1",
    "FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor",
    "FloorDiv FloorMod FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2",
    "FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater",
    "GreaterEqual HSVToRGB Identity IdentityN If Imag ImageProjectiveTransformV2",
    "ImageProjectiveTransformV3 Inv InvGrad InvertPermutation IsFinite IsInf IsNan L2Loss LRN",
    "LeakyRelu LeakyReluGrad LeftShift Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd",
    "LogicalNot LogicalOr LoopCond MatMul MatrixBandPart MatrixDiag MatrixDiagV2 MatrixDiagV3 Max",
    "MaxPool MaxPoolGrad MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad MirrorPadGrad Mod Mul",
    "MulNoNan Multinomial Neg NextIteration NoOp NotEqual OneHot OnesLike Pack Pad PadV2",
    "ParallelConcat PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault Pow",
    "PreventGradient Prod QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4",
    "RGBToHSV RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt Range Rank",
    "ReadVariableOp RealDiv Reciprocal ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad Reshape",
    "ResizeArea ResizeBicubic ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor",
    "ResizeNearestNeighborGrad ResourceGather Reverse ReverseV2 RightShift Rint RngReadAndSkip",
    "RngSkip Roll Round Rsqrt RsqrtGrad SampleDistortedBoundingBoxV2 ScaleAndTranslate ScatterNd",
    "Select SelectV2 Selu SeluGrad Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh Size Slice",
    "Snapshot Softmax Softplus SoftplusGrad Softsign SpaceToBatchND SpaceToDepth Split SplitV",
    "Sqrt SqrtGrad Square SquaredDifference Squeeze StatefulPartitionedCall",
    "StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt",
    "StatefulUniformInt StatelessCase StatelessIf StatelessMultinomial StatelessRandomGetAlg",
    "StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal",
    "StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt",
    "StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2",
    "StatelessRandomUniformV2 StatelessSampleDistortedBoundingBox StatelessTruncatedNormal",
    "StatelessTruncatedNormalV2 StatelessWhile StaticRegexFullMatch StopGradient StridedSlice",
    "StridedSliceGrad StringJoin Sub Sum Switch Tan Tanh TanhGrad TensorListConcatV2",
    "TensorListElementShape TensorListFromTensor TensorListGetItem TensorListLength",
    "TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListSetItem",
    "TensorListStack TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod",
    "TruncatedNormal Unpack UnsortedSegmentSum VarHandleOp VarIsInitializedOp VariableShape Where",
    "While Xdivy ZerosLike",
)
# By these the functions of a saver are known, which are left out: they read and write files.
SAVER_OPERATORS = _names("SaveV2 RestoreV2 ShardedFilename MergeV2Checkpoints")

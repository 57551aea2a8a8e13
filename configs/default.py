"""Every key of an experiment, with its unit. Other configs call this one and override a few keys.

The values here are those of `baseline.py`: the lessons' convolutional network on CIFAR-10 without
dropout and without augmentation.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference


def get_config() -> ConfigDict:
    """Returns the complete, locked config."""
    c = ConfigDict()
    c.seed = 0  # Of initialisation, data order, augmentation and dropout.

    c.data = data = ConfigDict()
    data.name = "cifar10"  # Any TFDS image-classification set, or the embedded 'shapes10'.
    # Instead of a TFDS set, your own pictures: FOLDER/CLASS/picture.jpg, or FOLDER/train/CLASS/...
    # with val/ and test/ beside train/. '' for none.
    data.folder = ""
    # How pictures of several sizes are brought to one: those of a folder, and of a TFDS set that
    # has no size of its own (cats_vs_dogs, food101, tf_flowers). Images of all other sets stay as
    # they are, and these three keys are not read.
    data.image_size = _one_or_each(32)  # Pixels that pictures are brought to, or (height, width).
    data.channels = 3  # 3 for RGB, 1 for grey.
    data.fit = "crop"  # Of another aspect ratio: 'crop' the middle, 'pad' or 'stretch'.
    # Examples held out of the train split, or their share, such as 0.1; 0 for none.
    data.validation_size = _one_or_each(5000)
    data.split_seed = 0  # Of that division alone: the same for every seed.

    c.augment = augment = ConfigDict()
    augment.names = ()  # In this order: 'flip', 'crop', 'cutout'. Each has its section here.
    # 'alternate': mirrored in every other epoch, instead of by a coin toss in each.
    augment.flip = ConfigDict({"probability": 0.5, "alternate": False})
    augment.crop = ConfigDict({"padding": 4, "mode": "reflect"})  # Pixels; reflect, zero or edge.
    augment.cutout = ConfigDict({"size": 8, "fill": 128})  # Pixels; grey level 0 to 255.

    c.model = model = ConfigDict()
    model.name = "plain"  # The family; its keys are in the section of that name.
    model.dtype = "float32"  # Of the computation; 'bfloat16' for accelerators. Weights: float32.
    # Of products in convolutions, whose sums are float32: 'default' for what suits the backend,
    # 'bfloat16' for the quickest on a CPU too, 'float32' for the exactest.
    model.precision = "default"
    model.plain = plain = ConfigDict()
    plain.filters = ((32, 32), (64, 64))  # One tuple a stage, one number a convolution.
    # One value for all stages, or a tuple with one a stage:
    # 'standard', 'depthwise', 'separable' or 'transposed', of the convolutions.
    plain.conv = _one_or_each("standard")
    plain.kernel_size = _one_or_each(3)  # Pixels, square; 1 for pointwise.
    plain.stride = _one_or_each(1)  # Pixels, of the convolutions.
    plain.padding = _one_or_each("SAME")  # 'SAME' or 'VALID', of the convolutions.
    plain.dilation = _one_or_each(1)  # Pixels from one tap of a kernel to the next.
    plain.groups = _one_or_each(1)  # Of channels and filters; of 'standard' convolutions alone.
    plain.pool = _one_or_each("max")  # 'max', 'avg' or 'none', at the end of a stage.
    plain.pool_size = _one_or_each(2)  # Pixels, square.
    plain.pool_stride = _one_or_each(2)  # Pixels.
    plain.conv_dropout = _one_or_each(0.0)  # Rate, after the pooling.
    plain.batch_norm = False  # After every convolution.
    plain.activation = "relu"  # elu, gelu, leaky_relu, relu, sigmoid, silu, tanh.
    plain.dense = (512,)  # Widths of the hidden dense layers.
    plain.dense_dropout = 0.0  # Rate, after every hidden dense layer.

    model.airbench = airbench = ConfigDict()
    airbench.widths = (64, 256, 256)  # Filters of each block's convolutions.
    airbench.depth = 2  # Convolutions a block; 3 with a shortcut past the last two.
    airbench.whitening_size = 2  # Pixels of the first kernel, square.
    airbench.dirac = True  # Whether kernels begin as the identity.
    airbench.batch_norm_momentum = 0.6  # Share of the running statistics kept at each step.
    airbench.batch_norm_epsilon = 1e-12  # Added to variances.
    airbench.activation = "gelu"  # As in model.plain.
    airbench.logit_scale = 1 / 9  # Of the logits; its square sets how quickly the head learns.
    model.resnet = resnet = ConfigDict()
    resnet.stage_sizes = (2, 2, 2, 2)  # Blocks of two convolutions, a number a stage.
    resnet.widths = (64, 128, 256, 512)  # Filters, a number a stage.
    resnet.zero_init_residual = False  # Whether blocks begin as the identity: last scale 0.
    resnet.batch_norm_momentum = 0.9  # Share of the running statistics kept at each step.
    model.wide_resnet = wide_resnet = ConfigDict()
    wide_resnet.depth = 28  # Convolutions one after another: 4 and a multiple of 6.
    wide_resnet.widen_factor = 10  # Times 16, 32 and 64 filters.
    wide_resnet.dropout = 0.0  # Rate, between the two convolutions of a block.
    wide_resnet.batch_norm_momentum = 0.9  # Share of the running statistics kept at each step.

    c.optim = optim = ConfigDict()
    optim.name = "adam"  # adam, adamw, sgd or muon; its keys are in the section of that name.
    optim.learning_rate = 1e-3  # The highest of the schedule.
    optim.schedule = "constant"  # constant, linear, cosine, triangular or one_cycle.
    optim.warmup_epochs = 0.0  # Linear rise before 'constant', 'linear' and 'cosine'.
    optim.end_factor = 0.0  # Last rate / highest rate, of all but 'constant'.
    optim.peak_fraction = 0.3  # Where 'triangular' and 'one_cycle' are highest, of all steps.
    optim.ema_decay = 0.0  # Evaluate a moving average of the weights, per step; 0 for none.
    optim.weight_decay = 0.0  # On kernels only; adamw (decoupled) and sgd (added to gradients).
    optim.clip_norm = 0.0  # Global norm that gradients are clipped to; 0 for no clipping.
    # (regex, factor) pairs: the first that matches a whole path such as 'Conv_0/kernel' multiplies
    # the learning rate of that parameter; 0 freezes it.
    optim.lr_mults = ()
    optim.adam = ConfigDict({"b1": 0.9, "b2": 0.999, "eps": 1e-8})
    optim.adamw = ConfigDict({"b1": 0.9, "b2": 0.999, "eps": 1e-8})
    optim.sgd = ConfigDict({"momentum": 0.9, "nesterov": True})
    optim.muon = muon = ConfigDict()
    muon.momentum = 0.6  # Of the kernels of convolutions; all else is left to SGD.
    muon.nesterov = True
    muon.ns_steps = 3  # Newton-Schulz iterations that make the momentum orthogonal.
    muon.normalize_kernels = True  # Each kernel keeps the norm sqrt(filters).
    muon.sgd_learning_rate = 0.05  # The highest; the schedule is the same.
    muon.sgd_momentum = 0.85

    c.train = train = ConfigDict()
    train.epochs = 20  # Passes over the training part.
    train.batch_size = 128  # Examples a step, over all devices together.
    # Examples that share batch statistics and dropout draws, and lie on one device. A CPU takes its
    # micro-batches one after another, so that their feature maps stay in the cache; accelerators
    # take theirs all at once.
    train.micro_batch_size = 16
    # (first epoch from 0, pixels) pairs: sides that training images are shrunk to, such as
    # ((0, 24), (4, 32)); () for none.
    train.image_sizes = ()
    train.mixup_alpha = 0.0  # Of the Beta distribution of mixup's weight; 0 for no mixup.
    train.label_smoothing = 0.0  # Share of the target spread evenly over the classes.
    train.log_every_steps = 50  # Steps that one line of metrics.jsonl covers.

    c.eval = evaluation = ConfigDict()
    evaluation.every_epochs = 1  # Validation; the last epoch is always validated.
    # Examples a step, over all devices together. On a CPU 500 took twice as long as 128, whose
    # feature maps stay in the cache.
    evaluation.batch_size = 128
    evaluation.tta_shift = 1  # Pixels, of the shifted views of scripts/evaluate.py --tta.

    c.checkpoint = checkpoint = ConfigDict()
    checkpoint.every_epochs = 1  # The last epoch is always saved.
    checkpoint.keep_latest = 2  # The newest ones kept,
    checkpoint.keep_best = 1  # and those of the highest validation accuracy.

    # Where the run computes, and not what: these may change when it is resumed.
    c.run = run = ConfigDict()
    run.platform = "auto"  # auto, cpu, cuda, rocm or tpu; anything but auto must be there.
    run.cpu_devices = 0  # Devices that a CPU shows as; 0 for one a core, at most 8.
    # Of prepared TFDS sets, '' for $TFDS_DATA_DIR or ~/tensorflow_datasets; or where data.folder is
    # now, if it has moved.
    run.data_dir = ""
    run.cache_dir = ""  # Of decoded arrays and programs; '' for ~/.cache/cifar_cnn.
    return c.lock()


def _one_or_each(value: int | float | str) -> FieldReference:
    """A key that takes one value or a tuple of values, or numbers of two types."""
    return FieldReference(value, field_type=object)

"""The compiler: an ordinary Keras model becomes a TFLite file that trains with built-in ops.

An artefact has these signatures (``B`` is the micro-batch, no input has rank 0):

``train``
    ``x`` float32 ``[B, *input_shape]``, ``y``, ``sample_weight`` float32 ``[B]``, ``apply`` float32
    ``[1]`` and one float32 ``[1]`` per hyperparameter -> ``loss`` float32 ``[1]``. The gradient of
    ``sum_i sample_weight[i] * loss_i`` is accumulated; with ``apply`` 1 the optimizer steps with
    all that was accumulated, and the next call begins anew. Hyperparameters stay the same from one
    step to the next (SGD accumulates in its momentum). Moving statistics of batch
    normalisation are updated at every call, from all ``B`` samples: pad with real ones. The caller
    passes ``sample_weight = 1/n`` over the ``n`` samples of the effective batch, 0 for padding.
``evaluate``
    ``x``, ``y``, ``sample_weight`` -> ``loss`` ``[1]`` (without regularisers) and ``logits``; of a
    classifier also ``correct`` ``[1]`` and, a class each, ``hits``, ``predicted`` and ``actual``
    ``[classes]``: how many samples were rightly put in it, put in it, and belong to it. All are
    sums weighted by ``sample_weight``.
``infer``
    ``x`` -> ``logits``
``load``
    ``w000``, ``w001``, ... -> ``ok``; also clears what was accumulated and optimizer state. The
    file holds no weights: it must be loaded before anything else.
``weights``
    -> ``w000``, ``w001``, ...: all weights, moving statistics included, in manifest order
``reset``
    clears what was accumulated and optimizer state
``state``
    -> the optimizer's slots and, where these do not hold it already, the accumulated gradient
    ``accumulator``, each one flat vector; of an SGD that accumulates in its momentum also
    ``pending`` ``[1]``, 1 in the middle of a step

``y`` is int32 ``[B]`` for sparse categorical cross-entropy, else float32 ``[B, *output_shape]``.

TensorFlow is imported only by modules of this package, and only inside the compile process that
:class:`~fieldtune.server.compiler.service.CompileService` runs.
"""

"""Built-in models: each a function of its knobs, ``input_shape`` and ``classes``.

They return an uncompiled ``keras.Model`` that ends in logits, and adapt to the input's shape:
images may be of any size, a sequence model reads the rows of an image one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fieldtune.server.compiler.models.basic import cnn, cnn1d, logistic, mlp
from fieldtune.server.compiler.models.sequence import gru, transformer
from fieldtune.server.compiler.models.tiny import autoencoder, ds_cnn, mobilenet, resnet8

BUILTIN: dict[str, Callable[..., Any]] = {
    "autoencoder": autoencoder,
    "cnn": cnn,
    "cnn1d": cnn1d,
    "ds_cnn": ds_cnn,
    "gru": gru,
    "logistic": logistic,
    "mlp": mlp,
    "mobilenet": mobilenet,
    "resnet8": resnet8,
    "transformer": transformer,
}

"""Batch normalisation by TensorFlow's fused operation, which trains faster on CPUs.

Keras normalises with a chain of small operations. TensorFlow has one operation for them, and one for their
gradients. Only the network that is trained has the fused layer. Models are exported from a plain network with
the same weights, so Keras loads them without mien.
"""

from typing import Any

from mien.models.networks import load_keras

keras = load_keras()


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc, name-defined]
    """Keras' layer, computed by one operation in training.

    It has the name of Keras' layer, because the paths in a file of weights contain it. Inputs of other ranks
    than 4, masks, and settings that the operation does not have are computed by Keras.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised maps `(n, h, w, c)`; in training, update the moving statistics."""
        if not (training and self.trainable and mask is None and self._is_fusible(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        x = tf.cast(inputs, tf.float32)  # as Keras does for bfloat16
        fused = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation divides the variance by n - 1, and Keras by n.
        n = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        kept, new = self.momentum, 1.0 - self.momentum
        self.moving_mean.assign(self.moving_mean * kept + fused.batch_mean * new)
        self.moving_variance.assign(
            self.moving_variance * kept + fused.batch_variance * ((n - 1.0) / n) * new
        )
        return tf.cast(fused.y, self.compute_dtype)

    def _is_fusible(self, inputs: Any) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not (self.renorm or self.synchronized)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16")
        )


def fuse(model: Any) -> Any:
    """Return a network with fused batch normalisation, and with the weights and random states of `model`.

    Names, order and shapes of the weights are those of `model`.

    Args:
        model: A functional network. It is returned itself where the operation does not help: if Keras does
            not run on TensorFlow, and on a GPU, where this was not measured.
    """
    if keras.backend.backend() != "tensorflow":
        return model
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return model

    def clone(layer: Any) -> Any:
        kind = type(layer)
        return (BatchNormalization if kind is keras.layers.BatchNormalization else kind).from_config(
            layer.get_config()
        )

    fused = keras.models.clone_model(model, clone_function=clone)
    for variable, source in zip(fused.variables, model.variables, strict=True):
        variable.assign(source)
    return fused

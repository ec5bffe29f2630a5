"""The logistic function with a derivative that keeps its digits."""

import jax
from jaxtyping import Array, Float


@jax.custom_jvp
def logistic(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Evaluate 1/(1 + e^-x), whose derivative is the product of the values at x and at -x.

    The form s (1 - s) of it that jax takes loses all digits of 1 - s as s approaches 1.
    """
    return jax.nn.sigmoid(x)


@logistic.defjvp
def _logistic_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    value = logistic(x)
    return value, tangent * value * logistic(-x)

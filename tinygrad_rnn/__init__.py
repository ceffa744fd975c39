"""tinygrad_rnn: write the forward equations of a recurrent cell; get everything else.

Read the source in this order: ops.py (every op and its derivative), tensor.py (the graph, and the walk back through it),
operators.py and functions.py (what people call), numpy_api.py (how NumPy's own functions join), nn/module.py, nn/cells.py,
nn/recurrent.py (the one loop over time), optim/sgd.py, gradcheck.py (how we know that it is right), viz/ (how it looks).
"""

from . import functions, nn, numpy_api, optim, viz
from .functions import (
    abs, add, broadcast_to, clip, concatenate, cos, divide, dot, einsum, exp, expand_dims, log, log1p, logaddexp, matmul, max,
    maximum, mean, min, minimum, moveaxis, multiply, negative, outer, power, prod, ravel, relu, reshape, sigmoid, sin, split,
    sqrt, square, squeeze, stack, std, subtract, sum, swapaxes, tanh, transpose, var, where,
)  # fmt: skip
from .anomaly import AnomalyError, detect_anomaly
from .gradcheck import gradcheck
from .nn.init import manual_seed
from .scope import no_grad
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .tensor import Tensor

__all__ = [
    *functions.__all__,
    "Tensor", "functions", "gradcheck", "manual_seed", "nn", "no_grad", "numpy_api", "optim", "viz",
]  # fmt: skip

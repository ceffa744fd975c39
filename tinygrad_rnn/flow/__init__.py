"""What flows back through time: the terms of BPTT's sum, what reaches each state, and how each state depends on earlier ones.

    terms(loss, W)       dL/dW is a sum over the time steps at which W is used: its terms, one by one
    norms(loss)          the norm of dL/dh_t for all that a loop carries; states(loss) finds it, gradients_at(loss, h) is dL/dh
    jacobians(layer, x)  dh_t/dh_k, the product of the Jacobians in between: norms, spectral radii, singular values

No derivative is made here. All are results of the walk in backward.py, which is asked about more nodes than the leaves.
"""

from .jacobians import StateJacobians, jacobians
from .states import gradients_at, norms, states
from .terms import terms

__all__ = ["StateJacobians", "gradients_at", "jacobians", "norms", "states", "terms"]

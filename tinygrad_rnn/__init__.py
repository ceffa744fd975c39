from . import functions, nn, numpy_api, optim
from .functions import *
from .nn.init import manual_seed
from .tensor import Tensor, no_grad

"""Variational flow: no weights, CPU and GPU, differentiable.

solver       coarse to fine, and what is differentiated
constancy    the data term                 relaxation   solving it with the smoothness term
fusion       better candidates taken over  search       one of them: block matching
slant        what smoothness is towards
stencils     image operations whose sums have one order      adjoint   one's gradient, too
parallel     independent pictures on several cores, and their gradients
"""

from flow_cache.estimators.variational.solver import VariationalFlow

__all__ = ["VariationalFlow"]

"""The published CMGAN in PyTorch, rebuilt from its description, as the baseline for benchmarks.

PyTorch is not a dependency of this project. `client` starts `server` in an interpreter that has it; `networks`,
`training` and `server` run there and need only PyTorch and NumPy (and `pesq` for whole steps).
"""

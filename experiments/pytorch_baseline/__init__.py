"""The published CMGAN in PyTorch, rebuilt from its description: what ours is measured against.

PyTorch is no dependency of this project. `client` starts `server` in an interpreter that has it; `networks`,
`training` and `server` run there and need PyTorch and NumPy alone (and `pesq` for whole steps).
"""

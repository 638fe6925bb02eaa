"""How programs are compiled where they run on a CPU; on other devices these options change nothing.

XLA's schedule for a CPU sets every operation without operands first. Each loop over sequences (`models.chunks`) has
such operations, the arrays of zeros that its results go to, and all of these then lie in memory from the first
operation on. Its fusions of small operations, in turn, want constants as whole arrays. Both cost memory and bring
nothing: BUILD_NOTES.md, "Enhancement".
"""

CPU_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False, "xla_cpu_experimental_ynn_fusion_type": ""}
"""For `compiler_options` of `jax.jit`."""

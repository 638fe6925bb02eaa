"""The flag of XLA with which programs compile faster: most of the tests' time is compilation.

Networks of the tests are tiny, so it does not matter how fast a program runs, and tests allow for rounding or compare
what was computed in the same way. `XLA_FLAGS=--xla_force_host_platform_device_count=4 make test` runs the tests with
programs that are compiled as users' are. XLA's flag for its older emitter of kernels would halve the time once more,
but gradients of this model on several devices are not finite with it (jaxlib 0.10.2).
"""

QUICK = "--xla_backend_optimization_level=0"
"""No optimisation by LLVM, which takes a third of the time; also for programs that tests start."""

"""The flag of XLA with which programs compile faster: most of the tests' time is compilation.

Networks of the tests are tiny, so it does not matter how fast a program runs, and tests allow for rounding or compare
what was computed in the same way. `XLA_FLAGS=--xla_force_host_platform_device_count=4 make test` runs the tests with
programs that are compiled as users' are. No optimisation at all (level 0) and XLA's older emitter of kernels compile
faster still, but on several devices they compute something else: the third loss of `examples/train_loop.py` on two
devices is 5 % off at level 0, and gradients are not finite with the older emitter (jaxlib 0.10.2).
"""

QUICK = "--xla_backend_optimization_level=1"
"""Little optimisation by LLVM; also for programs that tests start."""

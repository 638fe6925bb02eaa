"""Validation of a config; the constraints are declared in `config`, next to the fields."""

from cmgan_jax.config import Config
from cmgan_jax.constraints import Problem, is_specification, problems
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.built_in import BUILT_IN


def check(config: Config) -> None:
    """Validate a config before anything starts.

    Raises:
        UserError: values are invalid; the message lists each invalid field with its value and what it must be.
    """
    found = problems(config)
    metric = config.targets.metric
    if isinstance(metric, str) and metric not in BUILT_IN and not is_specification(metric):
        right = f"one of {', '.join(BUILT_IN)}, or a metric of your own as my_module:my_metric"
        found.append(Problem("targets.metric", metric, right))
    lines = [f"  --{path.replace('_', '-')} is {value}: it must be {right}" for path, value, right in found]
    if lines:
        raise UserError("the configuration cannot work:\n" + "\n".join(lines))

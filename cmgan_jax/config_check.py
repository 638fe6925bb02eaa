"""The check that refuses a config that cannot work; the constraints stand in `config`, beside the fields."""

from cmgan_jax.config import Config
from cmgan_jax.constraints import problems
from cmgan_jax.errors import UserError


def check(config: Config) -> None:
    """Refuse values that cannot work, before anything starts.

    Raises:
        UserError: every offending field with its value and what would be right.
    """
    lines = [f"  --{path.replace('_', '-')} is {value}: it must be {right}" for path, value, right in problems(config)]
    if lines:
        raise UserError("the configuration cannot work:\n" + "\n".join(lines))

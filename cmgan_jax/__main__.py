"""The command `cmgan`, started as `python -m cmgan_jax`."""

from cmgan_jax.cli.command import main

if __name__ == "__main__":
    main()

"""python -m ppg_jax: the same as the console command `ppg-jax`."""

from ppg_jax.command import main

if __name__ == "__main__":
    main()

"""`python -m vae_runtime` is `vae-run`."""

if __name__ == "__main__":
    from vae_runtime.cli import main

    main()

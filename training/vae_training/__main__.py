"""`python -m vae_training` is `vae-train`."""

if __name__ == "__main__":
    from vae_training.cli import main

    main()

"""`python -m vae_export` is `vae-export`."""

if __name__ == "__main__":
    from vae_export.cli import main

    main()

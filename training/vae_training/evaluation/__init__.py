"""What a trained model is worth: `vae-train evaluate` measures a run or a bundle on images it never saw."""

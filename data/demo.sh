#!/usr/bin/env bash
# The main job from end to end: train on the embedded faces, export, draw. `make demo` runs it.
# BIN: where the commands are; EPOCHS: how long to train; OUT: the folder that everything is written to.
set -euo pipefail

bin=${BIN:?the folder of vae-train, vae-export and vae-run}
out=${OUT:-demo}
rm -rf "$out"/{run,bundle,faces.png,interpolation.png,reconstruction.png}
mkdir -p "$out"

timed() { # timed NAME COMMAND...: run it, and note what it took
    local name=$1 start=$SECONDS
    shift
    echo "== $name: ${*/#"$bin/"/}"
    "$@"
    took+=("$(printf '%-12s %3d s' "$name" $((SECONDS - start)))")
}

took=()
timed train "$bin/vae-train" --data faces --epochs "${EPOCHS:-30}" --beta 0.1 --schedule onecycle \
    --learning-rate 2e-3 -o "$out/run"
timed export "$bin/vae-export" "$out/run" --opset 17 --name demo --license MIT -o "$out/bundle"
timed sample "$bin/vae-run" sample -n 100 --rows 10 --columns 10 --seed 7 --scale 3 \
    --model "$out/bundle" -o "$out/faces.png"
timed interpolate "$bin/vae-run" interpolate 1 2 --steps 20 --rows 4 --columns 5 --scale 6 \
    --model "$out/bundle" -o "$out/interpolation.png"
timed reconstruct "$bin/vae-run" reconstruct data/faces24.npz -n 40 --columns 5 --scale 3 --padding 2 \
    --model "$out/bundle" -o "$out/reconstruction.png"

echo
printf '%s\n' "${took[@]}"
echo
echo "100 new faces          $out/faces.png"
echo "20 interpolated faces  $out/interpolation.png"
echo "reconstructions        $out/reconstruction.png  (each to the right of its original)"
echo "the trained bundle     $out/bundle"

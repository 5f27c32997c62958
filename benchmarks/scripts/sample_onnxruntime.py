"""Sample 100 pictures with onnxruntime alone: DECODER.onnx OUTPUT.png."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

decoder, output = sys.argv[1:]
session = onnxruntime.InferenceSession(decoder, providers=["CPUExecutionProvider"])
latent = session.get_inputs()[0]
noise = np.random.default_rng().standard_normal((100, latent.shape[1]), dtype=np.float32)
images = session.run(None, {latent.name: noise})[0]
pictures = np.rint(images[:, 0] * 255).astype(np.uint8)
height, width = pictures.shape[1:]
sheet = pictures.reshape(10, 10, height, width).swapaxes(1, 2).reshape(10 * height, 10 * width)
Image.fromarray(sheet).save(output)

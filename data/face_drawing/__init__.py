"""Gray 24x24 faces drawn from random numbers: factors, geometry, colouring, lighting, camera."""

from face_drawing.draw import IMAGE_SIZE, FaceSet, draw_faces
from face_drawing.factors import FACTORS, Factor

__all__ = ["FACTORS", "IMAGE_SIZE", "FaceSet", "Factor", "draw_faces"]
